//! Shows the table on standard output, again whenever it changed; or, with JSON logs, an event with the counts.
//!
//! Lines that were not there the last time are marked with `+`. Nothing moves the cursor: what scrolled by stays true
//! for its moment, on a terminal and in a log.
#![expect(clippy::disallowed_methods, reason = "an expiry is shown relative to today")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use config::diagnostic::Severity;
use config::object::ObjectName;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, select_all};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::View;
use crate::cli::LogFormat;
use crate::problems;
use crate::readiness::Readiness;
use crate::table::{LISTED, Line, Listeners, Picture, draw};

/// How long changes are gathered before they are shown.
const QUIET: Duration = Duration::from_millis(100);

/// When the first table is shown even if a part is still starting.
const PATIENCE: Duration = Duration::from_millis(700);

/// The least time between two tables, so that endpoints that come and go all day do not fill a disk.
const PAUSE: Duration = Duration::from_millis(900);

/// What does not change while the process runs.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Where we accept.
    pub(crate) listeners: Listeners,
    /// The Service whose addresses lead to the ingress.
    pub(crate) publish_service: Option<ObjectName>,
    /// For people or for programs.
    pub(crate) format: LogFormat,
}

/// Shows what `view` says until `shutdown`.
pub(crate) async fn run(mut view: View, screen: Screen, readiness: Readiness, shutdown: CancellationToken) {
    let mut shown = None;
    // Losing the race is fine: the table then shows how far things are.
    let _ = timeout(PATIENCE, async {
        readiness.settled().await;
        while timeout(QUIET, changed(&mut view)).await.is_ok() {}
    })
    .await;
    while !shutdown.is_cancelled() {
        let picture = picture(&mut view, &screen);
        let lines = draw(&picture, Timestamp::now());
        if shown.as_ref() != Some(&lines) {
            match screen.format {
                LogFormat::Text => print(&lines, shown.as_ref()),
                LogFormat::Json => log(&picture),
            }
            shown = Some(lines);
        }
        let next = async {
            sleep(PAUSE).await;
            changed(&mut view).await;
            sleep(QUIET).await;
        };
        tokio::select! {
            () = next => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// The newest of everything; what comes later counts as a change.
fn picture(view: &mut View, screen: &Screen) -> Picture {
    view.snapshots.mark_unchanged();
    view.reports.iter_mut().for_each(watch::Receiver::mark_unchanged);
    let (vips, routes) = (view.vips.borrow_and_update().clone(), view.routes.borrow_and_update().clone());
    let certificates = view.certificates.borrow_and_update().clone();
    Picture {
        vips,
        routes: routes.entries.first(LISTED),
        route_count: routes.len,
        certificates: certificates.to_vec(),
        problems: view.problems(),
        listeners: screen.listeners.clone(),
        publish_service: screen.publish_service.clone(),
    }
}

/// Waits for a change of anything that is shown; for ever once nobody can change it.
async fn changed(view: &mut View) {
    fn watched<T>(receiver: &mut watch::Receiver<T>) -> BoxFuture<'_, ()>
    where
        T: Send + Sync,
    {
        async {
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
    let mut all = vec![watched(&mut view.snapshots), watched(&mut view.vips)];
    all.extend([watched(&mut view.routes), watched(&mut view.certificates)]);
    all.extend(view.reports.iter_mut().map(watched));
    select_all(all).await;
}

fn log(picture: &Picture) {
    let (errors, warnings) = problems::count(&picture.problems);
    let pending = picture.vips.iter().filter(|vip| vip.ips.is_empty()).count();
    info!(
        services = picture.vips.len(),
        pending,
        routes = picture.route_count,
        certificates = picture.certificates.len(),
        errors,
        warnings,
        "state changed"
    );
}

fn print(lines: &[Line], before: Option<&Vec<Line>>) {
    let mut out = io::stdout().lock();
    let text = text(lines, before, out.is_terminal());
    // A reader that went away does not stop the appliance.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The lines with a blank line around them and a mark on those that are new.
fn text(lines: &[Line], before: Option<&Vec<Line>>, colour: bool) -> String {
    let before: Option<HashSet<_>> = before.map(|lines| lines.iter().collect());
    let mut out = String::from("\n");
    for line in lines {
        let is_new = before.as_ref().is_some_and(|before| !before.contains(line));
        let mark = if line.text().is_empty() {
            ""
        } else if is_new {
            "+ "
        } else {
            "  "
        };
        // Writing to a String cannot fail.
        let _ = match (line, colour) {
            (Line::Head(text), true) => writeln!(out, "{mark}\x1b[1m{text}\x1b[0m"),
            (Line::Problem(Severity::Error, text), true) => writeln!(out, "{mark}\x1b[31m{text}\x1b[0m"),
            (Line::Problem(Severity::Warning, text), true) => writeln!(out, "{mark}\x1b[33m{text}\x1b[0m"),
            (line, _) => writeln!(out, "{mark}{}", line.text()),
        };
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_marked() {
        let line = |text: &str| Line::Text(text.to_owned());
        let before = vec![line("a"), line("b")];
        let after = [line("a"), line(""), line("c")];
        assert_eq!(text(&after, Some(&before), false), "\n  a\n\n+ c\n\n");
        assert_eq!(text(&after, None, false), "\n  a\n\n  c\n\n");
    }
}
