//! What a server that runs on a shard's own thread finds there: sockets, and a place for its state.
//!
//! The engine knows nothing of what is kept; it hands back what was attached to whoever names its type.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use super::Shard;
use crate::error::{Error, Result};
use crate::io::ring::{Listener, NetSource};

/// See [`Shard::attach`].
pub(crate) struct Attached {
    net: Option<NetSource>,
    state: RefCell<Option<Rc<dyn Any>>>,
}

impl Attached {
    pub(crate) fn new(net: Option<NetSource>) -> Self {
        Self { net, state: RefCell::default() }
    }
}

impl Shard {
    /// Listens at `address` on this shard's ring; other shards may at the same one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] in virtual time, which has no sockets; [`Error::Io`] when the address cannot be had.
    pub fn listen(&self, address: SocketAddr) -> Result<Listener> {
        let source = self.attached.net.as_ref();
        let source =
            source.ok_or_else(|| Error::Unsupported("there are no sockets in virtual time".into()))?;
        source.open().listen(address)
    }

    /// Keeps `state` with the shard, in place of what was kept before; none ends that.
    pub fn attach(&self, state: Option<Rc<dyn Any>>) {
        // Dropped outside of the borrow: it may end tasks that look here.
        let _before = self.attached.state.replace(state);
    }

    /// What was attached last, if it is a `T`.
    #[must_use]
    pub fn attached<T: Any>(&self) -> Option<Rc<T>> {
        let state = self.attached.state.borrow().clone();
        state.and_then(|state| state.downcast().ok())
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("state", &self.state.borrow().is_some()).finish_non_exhaustive()
    }
}
