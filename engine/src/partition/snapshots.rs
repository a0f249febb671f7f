//! Which versions readers hold on to.
//!
//! Compaction keeps, of each row, the newest version at or below every registered snapshot; nothing else keeps an
//! overwritten row alive.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ids::Version;

/// The snapshots of one partition.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    held: RefCell<BTreeMap<Version, usize>>,
}

/// Holds one version until dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    snapshots: Rc<Snapshots>,
    version: Version,
}

impl Snapshots {
    /// Keeps what a reader at `version` can see until the hold is dropped.
    pub(crate) fn hold(self: &Rc<Self>, version: Version) -> Hold {
        *self.held.borrow_mut().entry(version).or_insert(0) += 1;
        Hold { snapshots: Rc::clone(self), version }
    }

    /// The held versions, ascending, each once.
    pub(crate) fn versions(&self) -> Vec<Version> {
        self.held.borrow().keys().copied().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.snapshots.held.borrow_mut();
        if let Some(count) = held.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.version);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_held_until_its_last_reader_leaves() {
        let snapshots = Rc::new(Snapshots::default());
        let a = snapshots.hold(Version(5));
        let b = snapshots.hold(Version(5));
        let c = snapshots.hold(Version(3));
        assert_eq!(snapshots.versions(), [Version(3), Version(5)]);
        drop(a);
        drop(c);
        assert_eq!(snapshots.versions(), [Version(5)]);
        drop(b);
        assert!(snapshots.versions().is_empty());
    }
}
