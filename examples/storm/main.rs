//! Two gateways, the same traffic, the same failing upstream: one is what most READMEs teach, the other
//! has `buttress` in it.
mod args;
mod arrivals;
mod chance;
mod engine;
mod naive;
mod plain;
mod script;
mod tally;
mod upstream;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::args::Args;
use crate::engine::{Lane, Plan, Storm};
use crate::naive::NaiveConfig;
use crate::plain::Plain;
use crate::script::Script;
use crate::upstream::Upstream;
use crate::wire::Target;

fn main() -> ExitCode {
    let plan = match Args::parse(std::env::args().skip(1)).and_then(|args| plan(&args)) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("storm: {why}");
            return ExitCode::from(2);
        }
    };
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{}\n{}", plain::heading(&plan), plain::columns());
    let storm = servers.block_on(real(Arc::new(plan))).unwrap();
    println!("lag p99 {:?}", storm.lag.p99());
    ExitCode::SUCCESS
}

fn plan(args: &Args) -> Result<Plan, String> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))
    };
    let script = match &args.script {
        Some(path) => Script::parse(&read(path)?).map_err(|why| format!("{}: {why}", path.display()))?,
        None => Script::parse(script::DEFAULT)?,
    };
    let naive = match &args.naive {
        Some(path) => NaiveConfig::parse(&read(path)?).map_err(|why| format!("{}: {why}", path.display()))?,
        None => NaiveConfig::default(),
    };
    let script = script.scaled_to(args.duration.unwrap_or(script.seconds()));
    Ok(Plan::new(script, args.rate, args.seed, naive))
}

async fn real(plan: Arc<Plan>) -> std::io::Result<Storm> {
    let upstream = Upstream::new(plan.seed, plan.health(Duration::ZERO));
    let address = wire::serve_upstream(upstream.clone()).await?;
    let gateway = naive::gateway(&plan.naive, wire::forward(address));
    let any = ([127, 0, 0, 1], 0).into();
    let gateway = wire::serve_gateway(gateway, axum::Router::new(), any).await?;
    let storm = Storm::new(plan, vec![Lane::new("naive", Target::socket(gateway), upstream)]);

    let start = Instant::now() + Duration::from_millis(300);
    let (stop, stopped) = watch::channel(false);
    let (done, over) = oneshot::channel::<()>();
    let generator = storm.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(generator.generate(start, stopped));
        drop(done);
    });
    storm.direct(start, &mut Plain, over).await;
    let _ = stop.send(true);
    let _ = thread.join();
    Ok(storm)
}
