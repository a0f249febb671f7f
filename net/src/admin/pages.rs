//! Pages that somebody else on this host answers: what is asked is passed on over a bounded channel, and nothing is known
//! here of what it means.
//!
//! Orders (POST) are protected from web pages as `/move` and `/backup` are. Who answers does so when it has time: the
//! client waits for [`ANSWER_TIME_MAX`] at most.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::gauges::Gauges;
use super::{JSON, TEXT, is_from_a_page, told};

/// Questions that wait for their turn.
const QUESTIONS_MAX: usize = 64;
/// A plan of many entities takes seconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Which pages, and who is asked.
#[derive(Clone, Debug)]
pub struct Pages {
    paths: &'static [&'static str],
    body_bytes_max: usize,
    ask: SyncSender<Question>,
    pub(super) gauges: Gauges,
}

/// What a client asks for.
#[derive(Debug)]
pub struct Question {
    /// It is to be done (POST), and not only told.
    pub is_order: bool,
    /// One of the paths.
    pub path: String,
    /// What follows it, as it came.
    pub query: String,
    /// What was sent with an order.
    pub body: Bytes,
    answer: oneshot::Sender<Said>,
}

/// An answer.
#[derive(Debug)]
pub enum Said {
    /// JSON.
    Json(serde_json::Value),
    /// Text of this type, as `text/csv`.
    Text(&'static str, String),
    /// There is no such thing.
    Unknown(String),
    /// It cannot be done, and why; what to do.
    Refused(String),
}

impl Pages {
    /// Pages at `paths`, and where questions arrive; an order may have so many bytes. The gauges are told with the metrics.
    #[must_use]
    pub fn new(
        paths: &'static [&'static str],
        body_bytes_max: usize,
        gauges: Gauges,
    ) -> (Self, Receiver<Question>) {
        let (ask, asked) = sync_channel(QUESTIONS_MAX);
        (Self { paths, body_bytes_max, ask, gauges }, asked)
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(&path)
    }

    pub(super) fn paths(&self) -> &[&'static str] {
        self.paths
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let is_order = match *request.method() {
            Method::GET | Method::HEAD => false,
            Method::POST => true,
            _ => return told(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and POST\n".to_owned()),
        };
        if is_order && is_from_a_page(request.headers()) {
            let what = format!("send Content-Type: {JSON}, and no Origin\n");
            return told(StatusCode::FORBIDDEN, TEXT, what);
        }
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = if is_order {
            match Limited::new(request.into_body(), self.body_bytes_max).collect().await {
                Ok(body) => body.to_bytes(),
                Err(e) => return told(StatusCode::BAD_REQUEST, TEXT, format!("{e}\n")),
            }
        } else {
            Bytes::new()
        };
        let (answer, said) = oneshot::channel();
        let unavailable = |why: &str| told(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n"));
        match self.ask.try_send(Question { is_order, path, query, body, answer }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return unavailable("too many questions wait: ask again"),
            Err(TrySendError::Disconnected(_)) => return unavailable("it has stopped"),
        }
        match timeout(ANSWER_TIME_MAX, said).await {
            Ok(Ok(said)) => said.response(),
            Ok(Err(_dropped)) => unavailable("it stops"),
            Err(_elapsed) => unavailable("no answer yet: ask again"),
        }
    }
}

impl Question {
    /// Answers.
    pub fn answer(self, said: Said) {
        // Whoever asked may have gone.
        let _unheard = self.answer.send(said);
    }
}

impl Said {
    fn response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Json(value) => told(StatusCode::OK, JSON, format!("{value}\n")),
            Self::Text(kind, text) => told(StatusCode::OK, kind, text),
            Self::Unknown(what) => told(StatusCode::NOT_FOUND, TEXT, what + "\n"),
            Self::Refused(why) => told(StatusCode::CONFLICT, TEXT, why + "\n"),
        }
    }
}
