//! What real policies of all five patterns export and log, held against files line by line.
//!
//! The script uses the builders and handles of the policies and nothing of what stands between them and the page,
//! so it says what users see whatever that is made of. With `BUTTRESS_WRITE_GOLDEN` set it writes the files anew.

mod script;
mod told;

use std::path::Path;

use buttress_metrics::prometheus::with_buckets;
use metrics_exporter_prometheus::PrometheusBuilder;

use self::told::{Log, Told};

#[tokio::test(start_paused = true)]
async fn what_policies_export_and_log_is_what_the_files_say() {
    let log = Log::default();
    let _subscriber = tracing::subscriber::set_default(log.clone());
    let told = Told::new(with_buckets(PrometheusBuilder::new(), crate::KINDS).build_recorder());
    let _recorder = metrics::set_default_local_recorder(&told);

    let policies = script::run().await;
    is_as_in("page.txt", &told.page());
    drop(policies);
    is_as_in("page_at_rest.txt", &told.page());
    is_as_in("lines.txt", &log.lines());
    assert_eq!(buttress_kit::listener_panics(), 0);
}

fn is_as_in(file: &str, lines: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(file);
    if std::env::var_os("BUTTRESS_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut golden = golden.lines();
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(Some(line.as_str()), golden.next(), "{file}:{}, now and as it was", at + 1);
    }
    assert_eq!(None, golden.next(), "{file}:{}, now and as it was", lines.len() + 1);
}
