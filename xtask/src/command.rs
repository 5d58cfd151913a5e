//! Commands that say what they are before they run, and which one it was when they fail.

use std::{
    ffi::OsStr,
    fmt,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use crate::{
    Result,
    report::{Tally, now},
};

/// A command to run.
pub(crate) struct Cmd {
    command: Command,
    shown: String,
}

impl Cmd {
    pub(crate) fn new(program: &str) -> Self {
        Self { command: Command::new(program), shown: program.to_owned() }
    }

    /// The cargo that runs us, so that `cargo +toolchain xtask` stays with that toolchain.
    pub(crate) fn cargo(arguments: &str) -> Self {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Self { command: Command::new(program), shown: "cargo".to_owned() }.words(arguments)
    }

    /// Arguments separated by spaces.
    pub(crate) fn words(self, arguments: &str) -> Self {
        arguments.split_whitespace().fold(self, |cmd, word| cmd.arg(word))
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        let argument = argument.as_ref();
        self.command.arg(argument);
        self.shown.push(' ');
        self.shown.push_str(&quoted(&argument.to_string_lossy()));
        self
    }

    pub(crate) fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref();
        self.command.env(name, value);
        self.shown = format!("{name}={} {}", quoted(&value.to_string_lossy()), self.shown);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it with our own output and input.
    pub(crate) fn run(mut self) -> Result {
        println!("$ {self}");
        let status = self.command.status().map_err(|why| format!("`{self}`: {why}"))?;
        self.judge(status)
    }

    /// Runs it, shows what it prints, and counts the tests it reports.
    pub(crate) fn run_tests(mut self) -> Result<Tally> {
        println!("$ {self}");
        let mut child =
            self.command.stdout(Stdio::piped()).spawn().map_err(|why| format!("`{self}`: {why}"))?;
        let mut total = Tally::default();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = String::from_utf8_lossy(&line?).into_owned();
                if let Some(tally) = Tally::read(&line) {
                    tally.count();
                    total.passed += tally.passed;
                    total.failed += tally.failed;
                    total.ignored += tally.ignored;
                }
                println!("{line}");
            }
        }
        let status = child.wait()?;
        self.judge(status)?;
        Ok(total)
    }

    /// Runs it and shows what it printed only if it fails.
    pub(crate) fn run_quietly(mut self) -> Result {
        println!("$ {self}");
        let output = self.command.output().map_err(|why| format!("`{self}`: {why}"))?;
        if !output.status.success() {
            std::io::stdout().write_all(&output.stdout)?;
            std::io::stderr().write_all(&output.stderr)?;
        }
        self.judge(output.status)
    }

    /// What it prints on its standard output. Its errors go to ours.
    pub(crate) fn read(mut self) -> Result<String> {
        let output =
            self.command.stderr(Stdio::inherit()).output().map_err(|why| format!("`{self}`: {why}"))?;
        self.judge(output.status)?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Whether it starts and succeeds. What it prints is dropped.
    pub(crate) fn succeeds(mut self) -> bool {
        let silent = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        silent.status().is_ok_and(|status| status.success())
    }

    /// Runs it for at most `limit`: its status, and both outputs. `None` if it had to be ended.
    pub(crate) fn run_within(mut self, limit: Duration) -> Result<Option<(ExitStatus, String)>> {
        let piped = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().map_err(|why| format!("`{self}`: {why}"))?;
        // Read on threads: a child whose pipe is full would never end.
        let outputs = [child.stdout.take().map(drain), child.stderr.take().map(drain)];
        let begun = now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if now().saturating_duration_since(begun) >= limit => {
                    child.kill()?;
                    child.wait()?;
                    break None;
                }
                None => pause(),
            }
        };
        let outputs = outputs.into_iter().flatten().filter_map(|reader| reader.join().ok());
        let text: String = outputs.collect();
        Ok(status.map(|status| (status, text)))
    }

    /// Runs it with our own output for at most `limit`. `None` if it had to be ended, which it is asked to do in
    /// time to end what it started itself.
    pub(crate) fn ends_within(mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        println!("$ {self}");
        let mut child = self.command.spawn().map_err(|why| format!("`{self}`: {why}"))?;
        let begun = now();
        loop {
            match child.try_wait()? {
                Some(status) => return Ok(Some(status)),
                None if now().saturating_duration_since(begun) >= limit => {
                    if !Self::new("kill").arg(child.id().to_string()).succeeds() {
                        child.kill()?;
                    }
                    child.wait()?;
                    return Ok(None);
                }
                None => pause(),
            }
        }
    }

    fn judge(&self, status: ExitStatus) -> Result {
        if status.success() { Ok(()) } else { Err(format!("`{self}` failed ({status})").into()) }
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[expect(clippy::disallowed_methods, reason = "waits for a process, which no paused clock moves")]
fn pause() {
    thread::sleep(Duration::from_millis(10));
}

/// Written so that it can be pasted into a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_pasted_into_a_shell() {
        let cmd = Cmd::new("cargo").words("doc --no-deps").arg("it's").env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(cmd.to_string(), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'");
    }

    #[cfg(unix)]
    #[test]
    fn what_takes_too_long_is_ended() {
        let slow = Cmd::new("sleep").arg("60").ends_within(Duration::from_millis(20));
        assert!(slow.unwrap().is_none());
        let quick = Cmd::new("sleep").arg("0").ends_within(Duration::from_secs(60));
        assert!(quick.unwrap().unwrap().success());
    }

    #[test]
    fn failure_names_the_command() {
        let why = Cmd::new("no-such-program-here").arg("--now").run().unwrap_err().to_string();
        assert!(why.contains("no-such-program-here --now"), "{why}");
    }
}
