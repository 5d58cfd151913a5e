//! The command line, read by hand: one dependency less to build before the first line shows.

use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
storm: two gateways, the same traffic, the same failing upstream; one has buttress in it

usage: cargo run --release --example storm -- [options]

  --duration SECONDS   length of the run; the script's phases scale with it   [35]
  --rate N             requests per second to each gateway, 50 to 2000        [200]
  --seed N             seed of the arrivals and of the service times          [1]
  --script FILE        phases: `name seconds permits% service-ms` a line (a ramp is `30-100`)
  --naive FILE         settings of the first gateway, to tune the loser
                       (timeout_ms, retries, backoff_ms, backoff_factor as `key = value`)
  --fast               simulate in paused time, without sockets: a second instead of half a minute
  --serve [ADDR]       go round the script until Ctrl-C, gateway two and /metrics on ADDR
  --plain              a line a second, even on a terminal
  --log                what buttress logs, on standard error (with --plain or --fast)
  --outage             simulate a short outage; print answers, log lines and metrics of it
  --check              exit 1 when one of the figures is missed
  --report PATH        where to write the HTML report           [target/storm-report.html]
  --no-report          write none
  --help

exit: 0 done · 1 a figure missed (with --check) · 2 bad input · 3 run invalid (load generator
too late) · 130 Ctrl-C, report written
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) duration: Option<u32>,
    pub(crate) rate: u32,
    pub(crate) seed: u64,
    pub(crate) script: Option<PathBuf>,
    pub(crate) naive: Option<PathBuf>,
    pub(crate) fast: bool,
    pub(crate) serve: bool,
    pub(crate) address: SocketAddr,
    pub(crate) plain: bool,
    pub(crate) log: bool,
    pub(crate) outage: bool,
    pub(crate) check: bool,
    pub(crate) report: Option<PathBuf>,
    pub(crate) help: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            duration: None,
            rate: 200,
            seed: 1,
            script: None,
            naive: None,
            fast: false,
            serve: false,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            plain: false,
            log: false,
            outage: false,
            check: false,
            report: Some("target/storm-report.html".into()),
            help: false,
        }
    }
}

impl Args {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// Says which argument is wrong, and what was wanted.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut args = Self::default();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            if let Some(set) = switch(&flag) {
                if let Some(value) = inline {
                    return Err(format!("{flag} takes no value; got `{value}`"));
                }
                set(&mut args);
                continue;
            }
            if flag == "--serve" {
                args.serve = true;
                // With or without the `=`: what begins with a dash is the next option.
                if let Some(value) = inline.or_else(|| words.next_if(|next| !next.starts_with('-'))) {
                    args.address = value.parse().map_err(|_| {
                        format!("--serve is `{value}`; an address as 127.0.0.1:8080 is wanted")
                    })?;
                }
                continue;
            }
            let mut value =
                || inline.clone().or_else(|| words.next()).ok_or_else(|| format!("{flag} wants a value"));
            match flag.as_str() {
                "--duration" => args.duration = Some(duration(&value()?)?),
                "--rate" => args.rate = whole(&flag, &value()?, 50, 2000)? as u32,
                "--seed" => args.seed = whole(&flag, &value()?, 0, u64::MAX)?,
                "--script" => args.script = Some(value()?.into()),
                "--naive" => args.naive = Some(value()?.into()),
                "--report" => args.report = Some(value()?.into()),
                other => return Err(format!("unknown argument `{other}`; --help lists them all")),
            }
        }
        if args.fast && args.serve {
            return Err("--fast simulates and has no sockets, so --serve cannot go with it".into());
        }
        Ok(args)
    }
}

/// What a flag without a value does.
fn switch(flag: &str) -> Option<fn(&mut Args)> {
    Some(match flag {
        "--fast" => |args| args.fast = true,
        "--plain" => |args| args.plain = true,
        "--log" => |args| (args.log, args.plain) = (true, true),
        "--outage" => |args| args.outage = true,
        "--check" => |args| args.check = true,
        "--no-report" => |args| args.report = None,
        "--help" | "-h" => |args| args.help = true,
        _ => return None,
    })
}

/// Seconds, with or without the `s`; `2m` is two minutes.
fn duration(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(n @ 6..=3600) => Ok(n as u32),
        _ => Err(format!("--duration is `{text}`; whole seconds from 6 to 3600 are wanted")),
    }
}

fn whole(flag: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(format!("{flag} is `{text}`; a whole number from {least} to {most} is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn reads_both_spellings_of_a_value() {
        let args = parse("--rate=100 --seed 7 --duration 2m --report out.html --check").unwrap();
        assert_eq!((args.rate, args.seed, args.duration, args.check), (100, 7, Some(120), true));
        assert_eq!(args.report, Some("out.html".into()));
        assert_eq!(parse("").unwrap(), Args::default());
        assert_eq!(parse("--no-report").unwrap().report, None);
        for line in ["--serve=127.0.0.1:8080", "--serve 127.0.0.1:8080 --plain"] {
            assert_eq!(parse(line).unwrap().address.port(), 8080);
        }
        assert!(parse("--serve --plain").unwrap().plain);
    }

    #[test]
    fn refuses_what_it_does_not_understand_and_says_what_it_wants() {
        for (line, wanted) in [
            ("--rat 5", "unknown argument `--rat`"),
            ("storm", "unknown argument `storm`"),
            ("--rate", "--rate wants a value"),
            ("--rate 49", "from 50 to 2000"),
            ("--rate -5", "from 50 to 2000"),
            ("--seed 99999999999999999999", "whole number"),
            ("--duration 5", "from 6 to 3600"),
            ("--duration 999999999999999999m", "from 6 to 3600"),
            ("--plain=yes", "takes no value"),
            ("--serve=here", "an address"),
            ("--serve here", "an address"),
            ("--fast --serve", "no sockets"),
        ] {
            let why = parse(line).unwrap_err();
            assert!(why.contains(wanted), "{line}: {why}");
        }
    }
}
