//! Line plots as SVG text: no library, no script, nothing to load.

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

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 26.0;
/// More points than this say nothing more at 720 pixels.
const POINTS: usize = 600;

/// Draws one plot. `least` is the smallest upper end of the scale; `strip` colours the seconds below it.
pub(crate) fn plot(
    title: &str,
    axis: &Axis<'_>,
    series: &[Series<'_>],
    least: f64,
    strip: &[&str],
) -> String {
    let highest = series.iter().flat_map(|s| s.values.iter().flatten()).copied().fold(least, f64::max);
    let top = nice(highest);
    let x = |second: f64| LEFT + second / f64::from(axis.seconds.max(1)) * (WIDTH - LEFT);
    let y = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);
    let mut out = String::new();
    let _ = write!(
        out,
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{0}\">",
        escape(title)
    );
    for (n, (name, begin, end)) in axis.phases.iter().enumerate() {
        let (left, right) = (x(f64::from(*begin)), x(f64::from(*end)));
        let band = if n % 2 == 0 { "even" } else { "odd" };
        let _ = write!(
            out,
            "<rect class=\"{band}\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{0:.1}\" height=\"{1:.1}\"/>\
             <text x=\"{2:.1}\" y=\"12\">{3}</text><text x=\"{2:.1}\" y=\"{4:.1}\">{begin} s</text>",
            right - left,
            HEIGHT - TOP - BOTTOM,
            left + 2.0,
            escape(name),
            HEIGHT - 3.0
        );
    }
    for part in 0..=4 {
        let value = top * f64::from(part) / 4.0;
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text class=\"scale\" x=\"{1}\" y=\"{2:.1}\">{3}</text>",
            y(value),
            LEFT - 5.0,
            y(value) + 3.5,
            short(value)
        );
    }
    for line in series {
        let step = line.values.len().div_ceil(POINTS).max(1);
        let mut pen = 'M';
        let mut path = String::new();
        for (second, value) in line.values.iter().enumerate().step_by(step) {
            match value {
                Some(value) => {
                    let _ = write!(path, "{pen}{:.1} {:.1}", x(second as f64 + 0.5), y(*value));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        let _ = write!(out, "<path class=\"{}\" d=\"{path}\"/>", line.class);
    }
    let step = strip.len().div_ceil(POINTS).max(1);
    for (second, class) in strip.iter().enumerate().step_by(step) {
        if !class.is_empty() {
            let _ = write!(
                out,
                "<rect class=\"state {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.2}\" height=\"8\"/>",
                x(second as f64),
                HEIGHT - BOTTOM + 3.0,
                x(step as f64) - x(0.0) + 0.2,
            );
        }
    }
    out.push_str("</svg><p class=\"legend\">");
    for line in series {
        let _ = write!(out, "<span class=\"key {}\"></span>{} ", line.class, escape(line.name));
    }
    out.push_str("</p></figure>\n");
    out
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
        format!("{:.0}k", value / 1000.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_ends_at_a_round_number_above_all_values() {
        for (value, wanted) in [(0.9, 1.0), (1.0, 1.0), (201.0, 250.0), (17_637.0, 20_000.0), (0.0, 1.0)] {
            assert_eq!(nice(value), wanted, "{value}");
        }
        assert_eq!(nice(f64::NAN), 1.0);
    }

    #[test]
    fn lines_break_at_gaps_and_long_runs_are_thinned() {
        let axis = Axis { seconds: 4, phases: vec![("a<b", 0, 4)] };
        let values = vec![Some(1.0), None, Some(1.0), Some(0.0)];
        let drawn = plot("t", &axis, &[Series { name: "n", class: "c", values }], 1.0, &[]);
        assert_eq!(drawn.matches('M').count(), 2);
        assert!(drawn.contains("a&lt;b"));

        let axis = Axis { seconds: 3600, phases: vec![] };
        let series = Series { name: "n", class: "c", values: vec![Some(1.0); 3600] };
        let drawn = plot("t", &axis, &[series], 1.0, &["open"; 3600]);
        assert!(drawn.matches('L').count() <= POINTS);
        assert!(drawn.len() < 100_000, "{}", drawn.len());
    }
}
