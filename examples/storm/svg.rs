//! Line plots as SVG and HTML text: no library, no script, nothing to load. Only lines and areas are drawn, and they
//! stretch with the page; what is to be read is text beside them, which does not shrink with it.

use std::fmt::Write;

/// One line of a plot; `None` is a gap.
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// A class of the page's style sheet.
    pub(crate) class: &'a str,
    pub(crate) values: Vec<Option<f64>>,
}

/// What lies behind all lines: the phases, in seconds.
pub(crate) struct Axis<'a> {
    pub(crate) seconds: u32,
    pub(crate) phases: Vec<(&'a str, u32, u32)>,
}

/// Of the drawing, which the page stretches to the room it has.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;
/// More points than this say nothing more on any screen.
const POINTS: usize = 600;

impl Axis<'_> {
    fn x(&self, second: f64) -> f64 {
        second / f64::from(self.seconds.max(1)) * WIDTH
    }

    /// The same as a share of the width, for text.
    fn percent(&self, second: f64) -> f64 {
        self.x(second) / WIDTH * 100.0
    }

    /// Names in two rows in turn: a short phase's name then has the room of the next phase too.
    fn names(&self) -> String {
        let mut out = String::from("<div class=\"phases\">");
        for (n, (name, begin, _)) in self.phases.iter().enumerate() {
            let next = self.phases.get(n + 2).map_or(self.seconds, |(_, begin, _)| *begin);
            let (left, right) = (self.percent(f64::from(*begin)), self.percent(f64::from(next)));
            let row = if n % 2 == 0 { "even" } else { "odd" };
            let width = right - left;
            let name = escape(name);
            let _ = write!(
                out,
                "<span class=\"{row}\" style=\"left:{left:.1}%;width:{width:.1}%\">{name}</span>"
            );
        }
        out + "</div>"
    }

    fn bands(&self) -> String {
        let mut out = String::new();
        for (_, begin, end) in self.phases.iter().step_by(2) {
            let (left, right) = (self.x(f64::from(*begin)), self.x(f64::from(*end)));
            let width = right - left;
            let _ = write!(
                out,
                "<rect class=\"band\" x=\"{left:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>"
            );
        }
        out
    }

    /// Every so many seconds, so that there is room between them on a telephone.
    fn ticks(&self) -> String {
        let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
        let step = steps.into_iter().find(|step| self.seconds / step <= 7).unwrap_or(36_000);
        let mut out = String::from("<div class=\"ticks\">");
        for second in (0..=self.seconds).step_by(step as usize) {
            let unit = if second == 0 { " s" } else { "" };
            let left = self.percent(f64::from(second));
            let _ = write!(out, "<span style=\"left:{left:.1}%\">{second}{unit}</span>");
        }
        out + "</div>"
    }

    /// The breaker's state, second by second: the higher, the less goes through, so that it can be read without
    /// its colours.
    fn strip(&self, states: &[&str]) -> String {
        let step = states.len().div_ceil(POINTS).max(1);
        let mut out = format!("<svg class=\"strip\" viewBox=\"0 0 {WIDTH} 4\" preserveAspectRatio=\"none\">");
        for (second, state) in states.iter().enumerate().step_by(step) {
            let height = match *state {
                "" => continue,
                "closed" => 1,
                "half_open" => 2,
                _ => 4,
            };
            let _ = write!(
                out,
                "<rect class=\"state {state}\" x=\"{:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{height}\"/>",
                self.x(second as f64),
                4 - height,
                self.x(step as f64) + 0.2,
            );
        }
        out + "</svg>"
    }
}

/// Draws one plot. `least` is the smallest upper end of the scale; `strip` is what a breaker was in each second.
pub(crate) fn plot(
    title: &str,
    axis: &Axis<'_>,
    series: &[Series<'_>],
    least: f64,
    strip: &[&str],
) -> String {
    let highest = series.iter().flat_map(|s| s.values.iter().flatten()).copied().fold(least, f64::max);
    let top = nice(highest);
    let y = |value: f64| (1.0 - value / top) * HEIGHT;
    let title = tight(&escape(title));
    let mut out = format!(
        "<figure><figcaption>{title}</figcaption><div class=\"plot\">{}<div class=\"scale\">",
        axis.names()
    );
    let mut grid = String::new();
    for part in 0..=4 {
        let value = top * f64::from(part) / 4.0;
        let (at, label) = (y(value), short(value));
        let _ = write!(out, "<span style=\"top:{at:.0}%\">{label}</span>");
        let _ = write!(grid, "<path class=\"grid\" d=\"M0 {at:.0}H{WIDTH}\"/>");
    }
    let _ = write!(
        out,
        "</div><svg class=\"lines\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{title}\">{}{grid}",
        axis.bands()
    );
    for line in series {
        let _ = write!(out, "<path class=\"line {}\" d=\"{}\"/>", line.class, path(axis, &line.values, y));
    }
    out.push_str("</svg>");
    if !strip.is_empty() {
        out += &format!("<span class=\"label\">breaker</span>{}", axis.strip(strip));
    }
    let _ = write!(out, "{}</div><p class=\"legend\">", axis.ticks());
    for line in series {
        let _ = write!(out, "<span><i class=\"key {}\"></i>{}</span> ", line.class, escape(line.name));
    }
    if !strip.is_empty() {
        for (class, name) in [("closed", "closed"), ("half_open", "half-open"), ("open", "open")] {
            let _ = write!(out, "<span><i class=\"state {class}\"></i>{name}</span> ");
        }
    }
    out.push_str("</p></figure>\n");
    out
}

/// What the pen does: it is lifted over gaps.
fn path(axis: &Axis<'_>, values: &[Option<f64>], y: impl Fn(f64) -> f64) -> String {
    let step = values.len().div_ceil(POINTS).max(1);
    let (mut pen, mut path) = ('M', String::new());
    for (second, value) in values.iter().enumerate().step_by(step) {
        match value {
            Some(value) => {
                let _ = write!(path, "{pen}{:.1} {:.1}", axis.x(second as f64 + 0.5), y(*value));
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    path
}

/// The next round number: one to ten times a power of ten.
fn nice(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|top| *top >= value * 0.999).unwrap_or(value)
}

fn short(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.1}k", value / 1000.0).replace(".0k", "k")
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}").trim_end_matches('0').to_owned()
    }
}

/// Makes text safe inside elements and attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Keeps numbers and their units on one line.
pub(crate) fn tight(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        let unit = before.is_ascii_digit()
            && ["%", "s", "ms"].iter().any(|unit| is_word(&text[at + letter.len_utf8()..], unit));
        out.push(if letter == ' ' && unit { '\u{a0}' } else { letter });
        before = letter;
    }
    out
}

fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_with_their_units() {
        assert_eq!(
            tight("10 s, 5 % of 3 mice, 7 sides, 1000 ms."),
            "10\u{a0}s, 5\u{a0}% of 3 mice, 7 sides, 1000\u{a0}ms."
        );
    }

    #[test]
    fn scale_ends_at_a_round_number_above_all_values() {
        for (value, wanted) in [(0.9, 1.0), (1.0, 1.0), (201.0, 250.0), (17_637.0, 20_000.0), (0.0, 1.0)] {
            assert_eq!(nice(value), wanted, "{value}");
        }
        assert_eq!(nice(f64::NAN), 1.0);
        assert_eq!(
            [short(2.5), short(1000.0), short(12_500.0), short(20_000.0)],
            ["2.5", "1000", "12.5k", "20k"]
        );
    }

    #[test]
    fn lines_break_at_gaps_and_long_runs_are_thinned() {
        let axis = Axis { seconds: 4, phases: vec![("a<b", 0, 4)] };
        let values = vec![Some(1.0), None, Some(1.0), Some(0.0)];
        assert_eq!(path(&axis, &values, |y| y).matches('M').count(), 2);
        let drawn = plot("t", &axis, &[Series { name: "n", class: "c", values }], 1.0, &[]);
        assert!(drawn.contains("a&lt;b"));

        let axis = Axis { seconds: 3600, phases: vec![] };
        let series = Series { name: "n", class: "c", values: vec![Some(1.0); 3600] };
        assert!(path(&axis, &series.values, |y| y).matches('L').count() <= POINTS);
        let drawn = plot("t", &axis, &[series], 1.0, &["open"; 3600]);
        assert!(drawn.len() < 100_000, "{}", drawn.len());
    }

    #[test]
    fn name_of_a_phase_has_room_until_the_next_but_one_begins() {
        let axis =
            Axis { seconds: 40, phases: vec![("a", 0, 30), ("recovering", 30, 33), ("recovered", 33, 40)] };
        let names = axis.names();
        for wanted in [
            "even\" style=\"left:0.0%;width:82.5%\">a<",
            "odd\" style=\"left:75.0%;width:25.0%\">recovering<",
            "even\" style=\"left:82.5%;width:17.5%\">recovered<",
        ] {
            assert!(names.contains(wanted), "{names}");
        }
    }

    #[test]
    fn states_of_a_breaker_differ_in_height() {
        let axis = Axis { seconds: 3, phases: vec![] };
        let strip = axis.strip(&["closed", "half_open", "open"]);
        for (state, height) in [("closed", 1), ("half_open", 2), ("open", 4)] {
            let rect = strip.split("<rect ").find(|rect| rect.contains(&format!("state {state}\""))).unwrap();
            assert!(rect.contains(&format!(" height=\"{height}\"")), "{rect}");
        }
    }
}
