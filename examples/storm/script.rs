//! What befalls the upstreams, and when: phases as data.

use std::time::Duration;

/// The script that is played when none is given. A phase is a line: its name, its share of the run, how
/// much of the upstream's permits are left (`0` is dead, `a-b` a ramp), and how long one request takes.
pub(crate) const DEFAULT: &str = "\
# phase      seconds  permits %  service ms
healthy         4        100        100
slow            4        100        250
one-fifth       6         20        100
dead            5          0        100
recovering      3     30-100        100
recovered      13        100        100
";

/// One line of a script.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Phase {
    pub(crate) name: String,
    /// Whole seconds, so that no second of the table belongs to two phases.
    pub(crate) seconds: u32,
    /// Share of the permits at the beginning and at the end of the phase, `0.0..=1.0`.
    pub(crate) share: (f64, f64),
    pub(crate) service: Duration,
}

/// How an upstream fares at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Health {
    pub(crate) permits: usize,
    pub(crate) service: Duration,
}

impl Health {
    pub(crate) fn is_dead(&self) -> bool {
        self.permits == 0
    }

    /// Requests per second that can be served.
    pub(crate) fn capacity(&self) -> f64 {
        self.permits as f64 / self.service.as_secs_f64()
    }
}

/// The phases in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    pub(crate) phases: Vec<Phase>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// Says which line cannot be read, and why.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut phases = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                phases.push(Phase::parse(line).map_err(|why| format!("line {}: {why}", n + 1))?);
            }
        }
        if phases.is_empty() {
            return Err("no phases in it".into());
        }
        if phases.len() > 20 {
            return Err(format!("{} phases; 20 is the most", phases.len()));
        }
        Ok(Self { phases })
    }

    pub(crate) fn seconds(&self) -> u32 {
        self.phases.iter().map(|p| p.seconds).sum()
    }

    /// The same phases, stretched or squeezed to `total` seconds. Each keeps at least one.
    pub(crate) fn scaled_to(&self, total: u32) -> Self {
        let (whole, count) = (self.seconds(), self.phases.len() as u32);
        let mut phases = self.phases.clone();
        let (mut before, mut given) = (0, 0);
        for (i, phase) in phases.iter_mut().enumerate() {
            before += phase.seconds;
            let end = (f64::from(before) / f64::from(whole) * f64::from(total)).round() as u32;
            // Leaves a second for each phase still to come.
            let latest = total.saturating_sub(count - 1 - i as u32);
            phase.seconds = end.min(latest).saturating_sub(given).max(1);
            given += phase.seconds;
        }
        Self { phases }
    }

    /// The phase at `at` since the start and how far it has come, `0.0..1.0`; the last one never ends.
    pub(crate) fn at(&self, at: Duration) -> (usize, f64) {
        let mut begin = 0.0;
        let at = at.as_secs_f64();
        for (i, phase) in self.phases.iter().enumerate() {
            let end = begin + f64::from(phase.seconds);
            if at < end {
                return (i, (at - begin) / f64::from(phase.seconds));
            }
            begin = end;
        }
        (self.phases.len() - 1, 1.0)
    }

    /// The seconds of the run that the phase covers, end excluded.
    pub(crate) fn span(&self, phase: usize) -> (u32, u32) {
        let begin = self.phases[..phase].iter().map(|p| p.seconds).sum();
        (begin, begin + self.phases[phase].seconds)
    }

    /// How an upstream with `permits` when healthy fares `progress` of the way through a phase.
    pub(crate) fn health(&self, phase: usize, progress: f64, permits: usize) -> Health {
        let phase = &self.phases[phase];
        let (from, to) = phase.share;
        let share = from + (to - from) * progress;
        let left = (permits as f64 * share).round() as usize;
        // Only a share of nothing is death: a ramp that rounds to zero has one permit.
        let permits = if share > 0.0 { left.max(1) } else { 0 };
        Health { permits, service: phase.service }
    }
}

impl Phase {
    fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, seconds, share, service] = words[..] else {
            return Err(format!(
                "4 words wanted (phase, seconds, permits %, service ms), {} found",
                words.len()
            ));
        };
        let seconds = number(seconds, "seconds", 1.0, 3600.0)? as u32;
        let percent = |text| number(text, "permits %", 0.0, 100.0).map(|p| p / 100.0);
        let share = match share.split_once('-') {
            Some((from, to)) => (percent(from)?, percent(to)?),
            None => (percent(share)?, percent(share)?),
        };
        let millis = number(service, "service ms", 1.0, 10_000.0)?;
        Ok(Self { name: name.into(), seconds, share, service: Duration::from_millis(millis as u64) })
    }
}

fn number(text: &str, what: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(format!("{what} is `{text}`; a number from {least} to {most} is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_script_reads_and_ends_in_ten_seconds_of_full_capacity() {
        let script = Script::parse(DEFAULT).unwrap();
        let last = script.phases.last().unwrap();
        assert_eq!((last.share, last.seconds >= 10), ((1.0, 1.0), true));
        assert!(script.seconds() < 38);
    }

    #[test]
    fn scaling_keeps_the_total_and_every_phase() {
        let script = Script::parse(DEFAULT).unwrap();
        for total in 6..200 {
            let scaled = script.scaled_to(total);
            assert_eq!(scaled.seconds(), total);
            assert!(scaled.phases.iter().all(|p| p.seconds >= 1), "{total}: {scaled:?}");
        }
        assert_eq!(script.scaled_to(script.seconds()), script);
    }

    #[test]
    fn health_follows_ramp_and_death() {
        let script = Script::parse("a 2 0 50\nb 4 50-100 50").unwrap();
        assert!(script.health(0, 0.5, 30).is_dead());
        assert_eq!(script.health(1, 0.0, 30).permits, 15);
        assert_eq!(script.health(1, 0.5, 30).permits, 23);
        assert_eq!(script.health(1, 1.0, 30).capacity(), 600.0);
        assert_eq!(script.at(Duration::from_secs(3)), (1, 0.25));
        assert_eq!(script.at(Duration::from_secs(99)), (1, 1.0));
        assert_eq!(script.span(1), (2, 6));
    }

    #[test]
    fn bad_lines_are_named_with_the_reason() {
        for (text, wanted) in [
            ("", "no phases"),
            ("a 1 100", "line 1: 4 words wanted"),
            ("a 1 100 5\nb x 100 5", "line 2: seconds is `x`"),
            ("a 1 101 5", "permits % is `101`"),
            ("a 1 NaN 5", "permits % is `NaN`"),
            ("a 1 100 0", "service ms is `0`"),
        ] {
            let why = Script::parse(text).unwrap_err();
            assert!(why.contains(wanted), "{text:?}: {why}");
        }
    }
}
