//! `foreshard node`: a store, served.
//!
//! The main thread opens the store and waits for a signal; shards and the admin endpoint have threads of their own.

mod allocator;
mod descriptors;
mod settings;

use std::io::Write;
use std::time::Duration;

use foreshard_engine::Store;
use foreshard_net::{Admin, Config, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub(crate) use self::settings::Arguments;
use self::settings::Settings;
use crate::planner::Planner;
use crate::shell::Failure;

/// Clients have this long to get their answers when the node stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until a signal says to stop.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = Settings::read(arguments)?;
    if arguments.print_config {
        let text = settings.to_toml()?;
        std::io::stdout().write_all(text.as_bytes()).map_err(|_closed| Failure::Closed)?;
        return Ok(());
    }
    // Before there is any thread or file.
    allocator::settle();
    // From here on a signal is kept until somebody looks.
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| told(&e))?;
    let options = settings.options()?;
    let shards = options.shards;
    tracing::info!(
        "opening {} with {shards} shards, durability {}",
        settings.data.display(),
        settings.durability
    );
    let store = Store::open(&settings.data, options).map_err(|e| told(&e))?;
    let server = Server::start(&store, shards, served(&settings)?).map_err(|e| told(&e))?;
    tracing::info!("serving Redis clients at {}", server.address());
    let backups = Some(settings.backups).filter(|dir| !dir.as_os_str().is_empty());
    let (planner, pages) = Some(settings.planner)
        .filter(|planner| planner.enabled)
        .map(|planner| Planner::start(&store, planner))
        .transpose()?
        .unzip();
    let admin = Admin::start(&store, settings.admin, backups, pages).map_err(|e| told(&e))?;
    tracing::info!("metrics and health at http://{}", admin.address());
    let signal = signals.forever().next();
    tracing::info!("stopping: signal {}", signal.unwrap_or_default());
    server.stop(&store, DRAIN).map_err(|e| told(&e))?;
    drop(admin);
    drop(planner);
    store.close().map_err(|e| told(&e))?;
    tracing::info!("stopped; everything acknowledged is durable");
    Ok(())
}

/// How the store is served: with as many clients as there are descriptors for.
fn served(settings: &Settings) -> Result<Config, Failure> {
    let mut config = settings.server();
    config.maxclients_most = descriptors::clients_max()?;
    if config.maxclients > config.maxclients_most {
        tracing::warn!(
            "maxclients = {} does not fit the limit of open files; at most {} clients are served. Raise the hard limit \
             (ulimit -Hn, LimitNOFILE= of a systemd unit)",
            config.maxclients,
            config.maxclients_most
        );
        config.maxclients = config.maxclients_most;
    }
    Ok(config)
}

fn told(e: &dyn std::error::Error) -> Failure {
    Failure::Told(e.to_string())
}
