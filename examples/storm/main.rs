//! Two gateways, the same traffic, the same failing upstream: one is what most READMEs teach, the other
//! has buttress in it.
//!
//! ```text
//! cargo run --release --example storm
//! ```
//!
//! Everything is one process on loopback. Two upstreams play the same script: healthy, slow, a fifth of
//! the capacity, dead, recovering, recovered. Two gateways, real axum servers, stand before them and get
//! the same seeded arrivals of HTTP requests. [`naive`] retries its upstream to death and never comes
//! back; [`protected`] is the file to copy from. `--help` lists the options.

mod ablation;
mod args;
mod arrivals;
mod chance;
mod engine;
mod layers;
mod live;
mod log;
mod metrics_page;
mod naive;
mod outage;
mod plain;
mod protected;
mod report;
mod script;
mod summary;
mod svg;
mod tally;
mod upstream;
mod verdicts;
mod wire;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tower::BoxError;

use crate::ablation::Tables;
use crate::args::Args;
use crate::engine::{End, Lane, Plan, Storm, View};
use crate::layers::Switch;
use crate::live::Live;
use crate::naive::NaiveConfig;
use crate::plain::Plain;
use crate::protected::Protected;
use crate::report::Report;
use crate::script::Script;
use crate::upstream::Upstream;
use crate::verdicts::Figures;
use crate::wire::Target;

/// Exit codes, as `--help` has them.
const MISSED: u8 = 1;
const BAD_INPUT: u8 = 2;
const INVALID: u8 = 3;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let outcome = Args::parse(std::env::args().skip(1)).map_err(BoxError::from).and_then(|args| {
        if args.help {
            return Ok(say(args::HELP.trim_end()));
        }
        if args.outage {
            return Ok(say(outage::samples()?.trim_end()));
        }
        let plan = Arc::new(plan(&args)?);
        if args.log {
            log::install(log::to_stderr)?;
        }
        say(&plain::heading(&plan));
        if args.fast { fast(&args, &plan) } else { real(&args, &plan) }
    });
    outcome.unwrap_or_else(|why| {
        eprintln!("storm: {why}");
        ExitCode::from(BAD_INPUT)
    })
}

/// Prints, and does not mind a reader that went away.
fn say(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn plan(args: &Args) -> Result<Plan, String> {
    let named = |path: &Path, why: String| format!("{}: {why}", path.display());
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|why| named(path, why.to_string()));
    let script = match &args.script {
        Some(path) => Script::parse(&read(path)?).map_err(|why| named(path, why))?,
        None => Script::parse(script::DEFAULT)?,
    };
    let naive = match &args.naive {
        Some(path) => NaiveConfig::parse(&read(path)?).map_err(|why| named(path, why))?,
        None => NaiveConfig::default(),
    };
    // Now, and not when the run is over and its report has nowhere to go.
    if let Some(report) = args.report.as_deref() {
        if report.is_dir() {
            return Err(named(report, "a folder; the report is a file".into()));
        }
        if let Some(folder) =
            report.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
        {
            std::fs::create_dir_all(folder).map_err(|why| named(folder, why.to_string()))?;
            say(&format!("made the folder {} for the report", folder.display()));
        }
    }
    let total = args.duration.unwrap_or(script.seconds());
    if total < script.phases.len() as u32 {
        return Err(format!("{total} s are too short for {} phases", script.phases.len()));
    }
    let mut plan = Plan::new(script.scaled_to(total), args.rate, args.seed, naive);
    plan.endless = args.serve;
    Ok(plan)
}

/// The simulation alone.
fn fast(args: &Args, plan: &Arc<Plan>) -> Result<ExitCode, BoxError> {
    Protected::new(plan)?;
    let waiter = Builder::new_current_thread().enable_all().build()?;
    let simulated = waiter.block_on(unless_interrupted({
        let plan = plan.clone();
        move || (ablation::side_by_side(&plan), ablation::run(&plan))
    }));
    match simulated {
        Some((storm, tables)) => finish(args, &storm, plan.seconds(), &tables, End::Over),
        None => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// Sockets and real time.
fn real(args: &Args, plan: &Arc<Plan>) -> Result<ExitCode, BoxError> {
    let servers = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = servers.block_on(async {
        let (storm, switch) = open(args, plan).await?;
        let on_terminal =
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let (end, seconds) = if on_terminal && !args.plain {
            blow(&storm, &mut Live::new(switch)?).await?
        } else {
            say(plain::columns());
            blow(&storm, &mut Plain).await?
        };
        let whole = end == End::Over && !storm.was_touched();
        let tables = if whole {
            let plan = plan.clone();
            unless_interrupted(move || ablation::run(&plan)).await
        } else {
            Some(Tables::default())
        };
        let end = if tables.is_some() { end } else { End::Interrupted };
        finish(args, &storm, seconds, &tables.unwrap_or_default(), end)
    });
    // Connections are still open; nobody waits for them.
    Runtime::shutdown_background(servers);
    outcome
}

/// Starts the upstreams and the gateways.
async fn open(args: &Args, plan: &Arc<Plan>) -> Result<(Storm, Arc<Switch>), BoxError> {
    let any = ([127, 0, 0, 1], 0).into();
    let upstreams = [(), ()].map(|()| Upstream::new(plan.seed, plan.health(Duration::ZERO)));
    let [one, two] = upstreams;

    let naive = naive::gateway(&plan.naive, wire::forward(wire::serve_upstream(one.clone()).await?));
    let naive = wire::serve_gateway(naive, axum::Router::new(), any).await?;

    let metrics = metrics_page::router()?;
    let protected = Protected::new(plan)?;
    let forward = wire::forward(wire::serve_upstream(two.clone()).await?);
    let switch = Arc::new(Switch::new(protected.clone(), forward));
    let address = wire::serve_gateway(switch.service(), metrics, args.address)
        .await
        .map_err(|why| format!("{}: {why}", args.address))?;

    say(&format!(
        "gateways: naive http://{naive}/ protected http://{address}/\n\
         metrics:  http://{address}/metrics\n"
    ));
    let naive = Lane::new("naive", Target::socket(naive), one);
    let protected = Lane::new("protected", Target::socket(address), two)
        .with_breaker(move || protected.breaker.state().as_str());
    Ok((Storm::new(plan.clone(), vec![naive, protected]), switch))
}

/// Runs the storm; says how it ended and how many whole seconds it had.
async fn blow(storm: &Storm, view: &mut dyn View) -> Result<(End, u32), BoxError> {
    let start = Instant::now() + Duration::from_millis(200);
    let (stop, stopped) = watch::channel(false);
    let (done, over) = oneshot::channel::<()>();
    // A thread of its own: what the gateways do must not make the clients late.
    let clients = Builder::new_current_thread().enable_all().build()?;
    let generator = storm.clone();
    let thread = std::thread::Builder::new().name("clients".into()).spawn(move || {
        clients.block_on(generator.generate(start, stopped));
        drop(done);
        clients.shutdown_background();
    })?;
    let over = async {
        tokio::select! {
            _ = over => End::Over,
            _ = tokio::signal::ctrl_c() => End::Interrupted,
        }
    };
    let end = storm.direct(start, view, over).await;
    let seconds = start.elapsed().as_secs() as u32;
    let _ = stop.send(true);
    if thread.join().is_err() {
        return Err("the load generator panicked".into());
    }
    Ok((end, if storm.plan.endless { seconds } else { seconds.min(storm.plan.seconds()) }))
}

/// Does `work` on a thread of its own; `None` when Ctrl-C was faster.
async fn unless_interrupted<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || done.send(work()));
    tokio::select! {
        result = result => Some(result.expect("the simulation does not panic")),
        _ = tokio::signal::ctrl_c() => None,
    }
}

/// Prints what came of it, writes the report, and decides the exit code.
fn finish(args: &Args, storm: &Storm, seconds: u32, tables: &Tables, end: End) -> Result<ExitCode, BoxError> {
    let plan = &storm.plan;
    let of = |lane: usize| Figures::of(plan, &storm.lanes[lane], seconds);
    let (naive, protected) = (of(0), of(1));
    let mut warnings = Vec::new();
    if plan.endless {
        warnings.push(format!("an endless run, stopped after {seconds} s: its figures are not judged"));
    } else if seconds < plan.seconds() {
        warnings.push(format!("stopped after {seconds} of {} s: the figures are not judged", plan.seconds()));
    }
    if storm.was_touched() {
        warnings.push("keys were pressed that changed the run: the figures are not judged".into());
    }
    let invalid = if args.fast { None } else { verdicts::invalid(storm) };
    warnings.extend(invalid.clone());
    let judged = seconds == plan.seconds() && !plan.endless && !storm.was_touched();
    let verdicts = if judged { verdicts::judge(&naive, &protected) } else { Vec::new() };

    say(&format!("\n{}", summary::text(&naive, &protected, &verdicts)));
    if !tables.layers.is_empty() {
        say(&ablation::lines("naive, simulated", &ablation::CAUSES, &tables.causes));
        say(&ablation::lines("simulated", &ablation::LAYERS, &tables.layers));
    }
    if !args.fast {
        say(&format!("load generator: late by {} (p99)", verdicts::millis(Some(storm.lag.p99()))));
    }
    warnings.iter().for_each(|warning| _ = say(warning));
    if let Some(path) = &args.report {
        let (naive, protected) = (&naive, &protected);
        let verdicts = &verdicts;
        let simulated = args.fast;
        let report = Report { storm, seconds, naive, protected, verdicts, tables, warnings, simulated };
        std::fs::write(path, report.html()).map_err(|why| format!("{}: {why}", path.display()))?;
        say(&format!("report: {}", path.display()));
    }
    let missed = verdicts.iter().any(|verdict| verdict.holds == Some(false));
    Ok(match end {
        End::Interrupted => ExitCode::from(INTERRUPTED),
        _ if invalid.is_some() => ExitCode::from(INVALID),
        _ if missed && args.check => ExitCode::from(MISSED),
        End::Over | End::Left => ExitCode::SUCCESS,
    })
}
