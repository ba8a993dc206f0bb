//! `vmcp serve` and `vmcp stdio`: run the stack behind a client edge until a stop signal.

use std::process::ExitCode;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};
use vmcp::CancellationToken;
use vmcp::audit::{self, Output};
use vmcp::config::Settings;
use vmcp::{Additions, ListenSocket, RunningGateway, StartError, StopSignals};

use crate::start_progress;

/// Serves over HTTP until a stop signal.
pub(crate) async fn http(settings: Settings) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_on_signal()?;
    let output = audit_output(&settings, true)?;
    let listen = settings.edge.listen;
    // The address is bound first, so that no server is started for nothing.
    let socket = ListenSocket::bind(listen).with_context(|| {
        format!("cannot listen on {listen}; choose another address with --host and --port")
    })?;
    let additions =
        Additions { audit: output, persists_levels: true, saves_lists: true, ..Additions::default() };
    let gateway = RunningGateway::start(settings, additions).await?;
    // One thread for each core: a call that stays on its thread wakes no other thread.
    let listener = gateway
        .listen_on(socket)
        .on_threads(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let endpoint = listener.endpoint();
    tracing::info!(%endpoint, "serving");
    // People and scripts wait for this line, so it does not depend on the log level.
    eprintln!("vmcp: serving {endpoint}");
    serve_admin(&gateway, &shutdown);
    start_progress::show(&gateway.federation);
    listener.serve(shutdown).await?;
    tracing::info!("stopping backends");
    gateway.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Serves the admin listener. If its address is in use, the gateway logs a warning and still serves clients.
fn serve_admin(gateway: &RunningGateway, shutdown: &CancellationToken) {
    match gateway.bind_admin() {
        Ok(None) => {}
        Ok(Some(listener)) => {
            tracing::info!(address = %listener.local_addr(), "serving the pages for operators");
            tokio::spawn(listener.serve(shutdown.clone()));
        }
        Err(error) => {
            let address = gateway.admin.listen.map(|address| address.to_string());
            tracing::warn!(
                address,
                %error,
                "the admin listener cannot be opened; set `admin.listen` to another address, or to `off`"
            );
        }
    }
}

/// Serves on standard input and output until the input ends or a stop signal arrives.
pub(crate) async fn stdio(settings: Settings) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_on_signal()?;
    let output = audit_output(&settings, false)?;
    if settings.audit.is_some() && output.is_none() {
        anyhow::bail!(
            "audit records cannot go to standard output, where the client reads; set `audit.logFile`"
        );
    }
    let additions = Additions { audit: output, saves_lists: true, ..Additions::default() };
    let gateway = RunningGateway::start(settings, additions).await?;
    let ends = StopSignals { shutdown, hangup: cancel_on_hangup() };
    gateway.serve_stdio(tokio::io::stdin(), tokio::io::stdout(), ends).await?;
    gateway.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Starts a gateway. Its requests are recorded if the settings ask for audit records and `audit` is an
/// output.
pub(crate) async fn start_audited(
    settings: Settings,
    audit: Option<Output>,
) -> Result<RunningGateway, StartError> {
    RunningGateway::start(settings, Additions { audit, ..Additions::default() }).await
}

/// Opens the output of audit records, if the settings ask for them.
pub(crate) fn audit_output(settings: &Settings, stdout_is_free: bool) -> anyhow::Result<Option<Output>> {
    Ok(settings.audit.as_ref().map_or(Ok(None), |audit| audit::open(audit, stdout_is_free))?)
}

/// Returns a token that is cancelled when the client closes its end of standard input, even if input is still
/// unread.
fn cancel_on_hangup() -> CancellationToken {
    let token = CancellationToken::new();
    let hangup = token.clone();
    // The thread ends with the process.
    std::thread::spawn(move || {
        let input = std::io::stdin();
        // With no requested events, `poll` reports only the end of the other side and errors.
        let mut watched = [PollFd::new(&input, PollFlags::empty())];
        while poll(&mut watched, None).is_err_and(|error| error == Errno::INTR) {}
        let is_hung_up =
            watched.iter().any(|watched| watched.revents().intersects(PollFlags::HUP | PollFlags::ERR));
        if is_hung_up {
            hangup.cancel();
        }
    });
    token
}

/// As [`stop_on_signal`], and ignores SIGHUP: terminals send it when they are closed, and init systems send it for a
/// reload.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP is ignored: the configuration is read at the start only");
        }
    });
    stop_on_signal()
}

/// Returns a token that the first SIGINT or SIGTERM cancels. The second one ends the process at once.
pub(crate) fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(token)
}
