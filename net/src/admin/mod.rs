//! The admin endpoint: metrics and health over HTTP, backups, and where entities are, on a thread of its own.
//!
//! It asks the shards over links, as any client of the store does, and never makes one wait: a shard that does not
//! answer in time is told about as such. It changes no row; what is ordered to, an entity or a partition, is moved.

mod backups;
mod capacity;
mod drill;
mod gauges;
mod metrics;
mod moves;
mod pages;
mod partitions;
mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use foreshard_engine::ids::ShardId;
use foreshard_engine::table::Image;
use foreshard_engine::{Client, Error, Result, Store};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;

pub use self::backups::summary_json;
use self::backups::{Backups, Lines};
pub use self::gauges::Gauges;
pub use self::pages::{Pages, Question, Said};
use crate::server::front_of;
use crate::server::report::Report;

/// A shard that has not answered by then is not well.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Connections at once: a scraper, a prober, an operator, each a few times.
const CONNECTIONS_MAX: usize = 64;
/// A client that does not send its request by then is closed.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// All at once, or line by line.
type Answer = Response<Either<Full<Bytes>, Lines>>;

/// The endpoint, until it is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Tells at `address` how `store` is doing, takes backups of it into directories in `backups`, if there is one, and passes
    /// on what is asked of `pages`.
    ///
    /// # Errors
    /// When the address cannot be had, or there is no thread to be had.
    pub fn start(
        store: &Store,
        address: SocketAddr,
        backups: Option<PathBuf>,
        pages: Option<Pages>,
    ) -> Result<Self> {
        let client = store.client()?;
        let refused = |e| Error::io("listen", Path::new(&format!("http:{address}")), e);
        let listener = std::net::TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("admin".to_owned());
        let thread =
            thread.spawn(move || run(client, (backups, pages), listener, stopped)).map_err(refused)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It has ended already when nobody listens.
            let _ended = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin endpoint's thread panicked");
        }
    }
}

fn run(
    client: Client,
    (backups, pages): (Option<PathBuf>, Option<Pages>),
    listener: std::net::TcpListener,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            tracing::error!("no admin endpoint: {e}");
            return;
        }
    };
    LocalSet::new().block_on(&runtime, async move {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                tokio::select! {
                    () = accept(Desk { client: Rc::new(client), backups: Rc::new(Backups::new(backups)), pages }, listener) => {}
                    _ = stopped => {}
                }
            }
            Err(e) => tracing::error!("no admin endpoint: {e}"),
        }
    });
}

/// What questions are answered from.
#[derive(Clone)]
struct Desk {
    client: Rc<Client>,
    backups: Rc<Backups>,
    pages: Option<Pages>,
}

async fn accept(desk: Desk, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed: nothing but this loop holds it open or shut.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("admin connection refused: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let desk = desk.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let desk = desk.clone();
                async move { Ok::<_, Infallible>(answer(&desk, request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME_MAX)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(e) = served {
                tracing::debug!("admin connection: {e}");
            }
            drop(place);
        });
    }
}

/// All shards' reports; what went wrong where one does not tell.
async fn reports(client: &Client) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    for shard in client.shards() {
        let ask = client.on(shard, |shard| async move { Ok(Report::of(&shard, &*front_of(&shard)?)) });
        match timeout(ANSWER_TIME_MAX, ask).await {
            Ok(Ok(report)) => reports.push(report),
            Ok(Err(e)) => return Err(format!("shard {}: {e}", shard.0)),
            Err(_elapsed) => return Err(format!("shard {}: no answer in {ANSWER_TIME_MAX:?}", shard.0)),
        }
    }
    Ok(reports)
}

/// The partition table, as the first shard knows it.
async fn table(client: &Client) -> Result<Arc<Image>, String> {
    let ask = client.on(ShardId(0), |shard| async move { Ok(shard.image()) });
    match timeout(ANSWER_TIME_MAX, ask).await {
        Ok(answer) => answer.map_err(|e| format!("shard 0: {e}")),
        Err(_elapsed) => Err(format!("shard 0: no answer in {ANSWER_TIME_MAX:?}")),
    }
}

async fn answer(desk: &Desk, request: Request<Incoming>) -> Answer {
    let Desk { client, backups, pages } = desk;
    let path = request.uri().path();
    if let Some(pages) = pages.as_ref().filter(|pages| pages.has(path)) {
        return pages.answer(request).await.map(Either::Left);
    }
    let is_post = request.method() == Method::POST;
    let is_move = matches!(path, "/move" | "/cancel" | "/drill") || (path == "/capacity" && is_post);
    let is_change = matches!(path, "/split" | "/merge" | "/hand-over" | "/cancel-change");
    if path != "/backup" && !is_move && !is_change {
        return look(desk, &request).await.map(Either::Left);
    }
    if request.method() != Method::POST {
        return told(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only POST\n".to_owned()).map(Either::Left);
    }
    if is_move {
        return json_or(moves::order(client, request).await).map(Either::Left);
    }
    if is_change {
        return json_or(partitions::order(client, request).await).map(Either::Left);
    }
    match backups::begin(client, backups, request).await {
        Ok(lines) => {
            let mut response = Response::new(Either::Right(lines));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
            response
        }
        Err((status, why)) => told(status, TEXT, why + "\n").map(Either::Left),
    }
}

/// What changes nothing.
async fn look(desk: &Desk, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let client = &desk.client;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return told(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    }
    let known = [
        "/metrics",
        "/healthz",
        "/readyz",
        "/status",
        "/table",
        "/moves",
        "/entity",
        "/partition",
        "/changes",
        "/split-point",
        "/capacity",
    ];
    let path = request.uri().path();
    if !known.contains(&path) {
        let more = desk.pages.as_ref().map(Pages::paths).unwrap_or_default();
        return told(
            StatusCode::NOT_FOUND,
            TEXT,
            format!("there is {}\n", [&known[..], more].concat().join(", ")),
        );
    }
    if matches!(path, "/table" | "/moves" | "/entity" | "/partition" | "/capacity") {
        return json_or(moves::tell(client, path, request.uri().query().unwrap_or_default()).await);
    }
    if matches!(path, "/changes" | "/split-point") {
        return json_or(partitions::tell(client, path, request.uri().query().unwrap_or_default()).await);
    }
    let reports = match reports(client).await {
        Ok(reports) => reports,
        Err(why) => return told(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
    };
    match path {
        "/metrics" => {
            let mut text = metrics::show(&reports);
            if let Some(pages) = &desk.pages {
                pages.gauges.show(&mut text);
            }
            told(StatusCode::OK, METRICS, text)
        }
        "/status" => match table(client).await {
            Ok(table) => told(StatusCode::OK, JSON, status::show(&reports, table.state())),
            Err(why) => told(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
        },
        "/healthz" => told(StatusCode::OK, TEXT, "ok\n".to_owned()),
        _ => match reports.iter().find_map(unready) {
            None => told(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Some(why) => told(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
        },
    }
}

/// An argument of a query, its `%xx` and `+` put back; none where it is not there, empty or broken.
#[must_use]
pub fn argument(query: &str, name: &str) -> Option<Vec<u8>> {
    let found = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let raw = found.map(|(_, value)| value).unwrap_or_default();
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        plain.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    Some(plain).filter(|plain| !plain.is_empty())
}

/// Whether a web page may have sent it: it has an origin, or is of a kind that forms are sent as.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.get(CONTENT_TYPE).is_none_or(|kind| kind != JSON && kind != CSV)
}

/// Why a shard does not take everything that clients may send.
fn unready(report: &Report) -> Option<String> {
    let shard = report.shard;
    if let Some(failure) = &report.engine.failure {
        return Some(format!("shard {shard} takes no writes: {failure}"));
    }
    if report.is_stopping {
        return Some(format!("shard {shard} is stopping"));
    }
    report.engine.is_full.then(|| format!("shard {shard} has no room for writes"))
}

fn json_or(answer: Result<serde_json::Value, moves::Refused>) -> Response<Full<Bytes>> {
    match answer {
        Ok(value) => told(StatusCode::OK, JSON, format!("{value}\n")),
        Err((status, why)) => told(status, TEXT, why + "\n"),
    }
}

fn told(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const CSV: &str = "text/csv";
const LINES: &str = "application/x-ndjson";
