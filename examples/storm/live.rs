//! The storm on a terminal of 80 × 24, or of 60: every line of a gateway has the same time axis as the script
//! above it, the breaker's state is a strip below, and keys change the weather and the layers.

use std::io::{self, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Color, Print, ResetColor, SetForegroundColor};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};

use crate::engine::{Command, Lane, Storm, View};
use crate::layers::{Layer, Layers, Switch};
use crate::tally::Second;

/// Columns beside the time axis: a label of 12 before it, a value of 10 behind.
const BESIDE: usize = 22;
/// The widest time axis, as on 80 columns.
const AXIS: usize = 58;
/// The narrowest; on a terminal that has no room for it the values are cut off.
const LEAST: usize = 20;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A piece of a line, with its colour.
type Piece = (Option<Color>, String);
type Line = Vec<Piece>;
/// What a row shows of a second.
type Figure<'a> = &'a dyn Fn(&Second) -> f64;

/// Draws on the terminal until it is dropped, which gives the terminal back.
pub(crate) struct Live {
    switch: Arc<Switch>,
    layers: Layers,
    forced: Option<usize>,
    colour: bool,
    last: Option<u32>,
}

impl Live {
    /// Takes the terminal over.
    pub(crate) fn new(switch: Arc<Switch>) -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // Made before the screen changes, so that a failure there still gives the terminal back.
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let live = Self { switch, layers: Layers::ALL, forced: None, colour, last: None };
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(live)
    }

    fn draw(&self, storm: &Storm) -> io::Result<()> {
        // Nobody has told a pseudo-terminal its size that says 0: `script -c` without a terminal around it.
        let size = terminal::size().ok().filter(|(width, height)| *width > 0 && *height > 0);
        let (width, height) = size.unwrap_or((80, 24));
        let mut out = stdout().lock();
        let screen = self.screen(storm, width.into());
        for (row, line) in screen.into_iter().take(height.into()).enumerate() {
            queue!(out, cursor::MoveTo(0, row as u16))?;
            let mut left = usize::from(width);
            for (colour, text) in line {
                let text: String = text.chars().take(left).collect();
                left -= text.chars().count();
                match colour.filter(|_| self.colour) {
                    Some(colour) => queue!(out, SetForegroundColor(colour), Print(text), ResetColor)?,
                    None => queue!(out, Print(text))?,
                }
            }
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        out.flush()
    }

    /// What the terminal shows, as lines of `width` columns at most, from 60 on.
    fn screen(&self, storm: &Storm, width: usize) -> Vec<Line> {
        let plan = &storm.plan;
        let done = self.last.map_or(0, |last| last + 1);
        let axis = Axis::new(plan.seconds(), done, plan.endless, width);
        let now = self.last.unwrap_or(0);
        let at = Duration::from_secs(now.into());
        let phase = self.forced.unwrap_or_else(|| plan.script.at(plan.in_script(at)).0);
        let held = if self.forced.is_some() { " (held)" } else { "" };
        let plain = |text: String| vec![(None, text)];
        // What matters most comes first: the rest is left out where there is no room.
        let heading = [
            "storm".to_owned(),
            format!("{done}/{} s", plan.seconds()),
            format!("{}{held}", plan.script.phases[phase].name),
            format!("{} req/s each", plan.rate),
            format!("lag p99 {:.1} ms", storm.lag.p99().as_secs_f64() * 1e3),
            format!("seed {}", plan.seed),
        ];
        let mut lines = vec![plain(fitting(&heading, "  ", width))];
        lines.push(Vec::new());
        lines.push(vec![(None, format!("{:12}", "script")), (Some(Color::Yellow), axis.marks(storm))]);
        // One scale for all that is counted in requests per second.
        let top = (plan.healthy_capacity().max(plan.rate.into())).max(1.0);
        let capacity = (0..axis.seconds).map(|s| Some(plan.capacity(axis.first + s))).collect::<Vec<_>>();
        let held = self.forced.map(|phase| plan.script.health(phase, 0.0, plan.permits).capacity());
        let value = format!("{:6.0}/s", held.unwrap_or_else(|| plan.capacity(now)));
        lines.push(axis.line("capacity", Color::DarkGrey, &capacity, top, &value));

        let seconds = |lane: &Lane| (axis.first..done).map(|s| lane.tally.get(s)).collect::<Vec<_>>();
        // And one for both queues: that one of them is a hundred times the other is to be seen.
        let longest =
            storm.lanes.iter().flat_map(&seconds).map(|s| s.queued).max().unwrap_or(0).max(50) as f64;
        for (n, lane) in storm.lanes.iter().enumerate() {
            let colour = if n == 0 { Color::Red } else { Color::Green };
            let seconds = seconds(lane);
            let last = seconds.last().cloned().unwrap_or_default();
            let of = |f: Figure<'_>| seconds.iter().map(|s| Some(f(s))).collect::<Vec<_>>();
            let total = lane.tally.sum(axis.first, done);
            lines.push(Vec::new());
            let heading = [
                format!("{}: {} of {} answered well", lane.name, total.good, total.offered),
                format!("{:.2} calls a request", total.calls_per_request()),
            ];
            lines.push(vec![(Some(colour), fitting(&heading, ", ", width))]);
            let rows: [(&str, Figure<'_>, f64); 4] = [
                ("good", &|s| s.good.into(), top),
                ("lost", &|s| s.lost().into(), top),
                ("refused", &|s| s.refused.into(), top),
                ("calls", &|s| s.calls.into(), 3.0 * top),
            ];
            for (label, f, top) in rows {
                if label == "refused" && n == 0 {
                    continue;
                }
                lines.push(axis.line(label, colour, &of(f), top, &format!("{:6.0}/s", f(&last))));
            }
            let queued = of(&|s| s.queued as f64);
            lines.push(axis.line("queue", colour, &queued, longest, &format!("{:8}", last.queued)));
            if !last.breaker.is_empty() {
                lines.push(axis.strip(&seconds, last.breaker));
            }
        }
        lines.push(Vec::new());
        let phases = plan.script.phases.iter().enumerate().take(9);
        let phases = phases.map(|(n, p)| vec![(None, format!("{} {} ", n + 1, p.name))]);
        let weather = std::iter::once(vec![(None, "0 script ".into())]).chain(phases);
        lines.extend(wrapped("weather  ", weather, width));
        let layers = Layer::ALL.into_iter().map(|layer| {
            let name = match self.layers.has(layer) {
                true => (None, layer.name().into()),
                false => (Some(Color::Red), format!("✗{}", layer.name())),
            };
            vec![(None, format!("{} ", layer.key())), name, (None, " ".into())]
        });
        lines.extend(wrapped("layers   ", layers, width));
        lines.push(plain("q ends the run and writes the report, Ctrl-C too".into()));
        lines
    }

    fn pressed(&mut self, key: KeyEvent, storm: &Storm) -> Option<Command> {
        let KeyCode::Char(letter) = key.code else { return None };
        if !(key.modifiers - KeyModifiers::SHIFT).is_empty() {
            // The end of an input that is no keyboard comes as Ctrl-D.
            let interrupt = key.modifiers == KeyModifiers::CONTROL && letter == 'c';
            return interrupt.then_some(Command::Interrupt);
        }
        if letter == 'q' {
            return Some(Command::Leave);
        }
        if let Some(layer) = Layer::ALL.into_iter().find(|layer| layer.key() == letter) {
            storm.touched.store(true, Relaxed);
            self.layers = self.layers.toggled(layer);
            self.switch.set(self.layers);
            return None;
        }
        let phase = letter.to_digit(10)? as usize;
        if phase > storm.plan.script.phases.len() {
            return None;
        }
        storm.touched.store(true, Relaxed);
        self.forced = phase.checked_sub(1);
        Some(self.forced.map_or(Command::Follow, Command::Force))
    }
}

impl View for Live {
    fn second(&mut self, storm: &Storm, second: u32) {
        if storm.plan.endless || second < storm.plan.seconds() {
            self.last = Some(second);
        }
        // A terminal that went away ends the run by its signal, not here.
        let _ = self.draw(storm);
    }

    fn tick(&mut self, storm: &Storm) -> Option<Command> {
        while event::poll(Duration::ZERO).unwrap_or(false) {
            match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    let command = self.pressed(key, storm);
                    let _ = self.draw(storm);
                    if command.is_some() {
                        return command;
                    }
                }
                Ok(Event::Resize(..)) => {
                    let _ = execute!(stdout(), Clear(ClearType::All));
                    let _ = self.draw(storm);
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Nothing is left to do where this fails.
        let _ = execute!(stdout(), cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// As many of the parts as fit into a line.
fn fitting(parts: &[String], between: &str, width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let longer = if line.is_empty() { part.clone() } else { format!("{line}{between}{part}") };
        if !line.is_empty() && longer.chars().count() > width {
            break;
        }
        line = longer;
    }
    line
}

/// The parts one after the other, on as many lines as they need; the further ones are indented as far as the first.
fn wrapped(label: &str, parts: impl Iterator<Item = Line>, width: usize) -> Vec<Line> {
    let length = |line: &Line| line.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
    let mut lines = vec![vec![(None, label.to_owned())]];
    for part in parts {
        let last = lines.last().expect("there is one from the beginning");
        // The blank at a part's end may fall off.
        if length(last) + length(&part) > width + 1 && last.len() > 1 {
            lines.push(vec![(None, " ".repeat(label.len()))]);
        }
        lines.last_mut().expect("as above").extend(part);
    }
    lines
}

/// Which second each column shows.
struct Axis {
    first: u32,
    seconds: u32,
    columns: usize,
}

impl Axis {
    fn new(total: u32, done: u32, endless: bool, width: usize) -> Self {
        // An endless run shows the script's length, and slides.
        let first = if endless { done.saturating_sub(total) } else { 0 };
        Self { first, seconds: total, columns: width.saturating_sub(BESIDE).clamp(LEAST, AXIS) }
    }

    /// The seconds, counted from `first`, that a column covers; never none.
    fn column(&self, column: usize) -> (usize, usize) {
        let edge = |column: usize| column * self.seconds as usize / self.columns;
        (edge(column), edge(column + 1).max(edge(column) + 1))
    }

    fn line(&self, label: &str, colour: Color, values: &[Option<f64>], top: f64, value: &str) -> Line {
        let bar = |column| {
            let (from, to) = self.column(column);
            let within = values.get(from..to.min(values.len())).unwrap_or_default();
            let highest = within
                .iter()
                .flatten()
                .copied()
                .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
            match highest {
                None => ' ',
                // Nothing at all is not the lowest bar.
                Some(0.0) => '·',
                Some(high) => BARS[((high / top * 8.0).ceil() as usize).clamp(1, 8) - 1],
            }
        };
        let bars: String = (0..self.columns).map(bar).collect();
        vec![(None, format!("  {label:<10}")), (Some(colour), bars), (None, format!("{value:>9}"))]
    }

    /// The breaker's state in letters, which a copied screen keeps and which need no colours to be told apart.
    fn strip(&self, seconds: &[Second], now: &str) -> Line {
        let mut line = vec![(None, format!("  {:<10}", "breaker"))];
        for column in 0..self.columns {
            let (from, _) = self.column(column);
            line.push(match seconds.get(from).map(|s| s.breaker) {
                Some("closed") => (Some(Color::Green), ".".into()),
                Some("open") => (Some(Color::Red), "O".into()),
                Some("half_open") => (Some(Color::Yellow), "h".into()),
                Some("") | None => (None, " ".into()),
                Some(_) => (Some(Color::DarkGrey), "-".into()),
            });
        }
        line.push((None, format!(" {now:>9.9}")));
        line
    }

    /// The phases' names where they begin.
    fn marks(&self, storm: &Storm) -> String {
        let plan = &storm.plan;
        let mut marks = vec![' '; self.columns];
        let mut last = None;
        for column in 0..self.columns {
            let second = self.first + self.column(column).0 as u32;
            let phase = plan.script.at(plan.in_script(Duration::from_secs(second.into()))).0;
            if last != Some(phase) {
                last = Some(phase);
                let name = plan.script.phases[phase].name.chars();
                for (place, letter) in marks[column..].iter_mut().zip(std::iter::once('|').chain(name)) {
                    *place = letter;
                }
                marks[column..]
                    .iter_mut()
                    .skip(plan.script.phases[phase].name.chars().count() + 1)
                    .for_each(|m| *m = ' ');
            }
        }
        marks.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;
    use crate::ablation;
    use crate::engine::Plan;
    use crate::naive::NaiveConfig;
    use crate::protected::Protected;
    use crate::script::{DEFAULT, Script};
    use crate::wire;

    fn storm() -> Storm {
        let script = Script::parse(DEFAULT).unwrap();
        ablation::side_by_side(&Arc::new(Plan::new(script, 50, 1, NaiveConfig::default())))
    }

    /// Made by hand: `new` would take the terminal of the test run.
    fn live(storm: &Storm) -> ManuallyDrop<Live> {
        let stack = Protected::new(&storm.plan).unwrap();
        let switch = Arc::new(Switch::new(stack, wire::direct(storm.lanes[1].upstream.clone())));
        ManuallyDrop::new(Live { switch, layers: Layers::ALL, forced: None, colour: false, last: None })
    }

    #[test]
    fn screen_fits_80_by_24_and_marks_every_phase() {
        let storm = storm();
        let mut live = live(&storm);
        (live.layers, live.forced) = (Layers::ALL.toggled(Layer::Retry), Some(2));
        for last in [None, Some(0), Some(20), Some(storm.plan.seconds() - 1)] {
            live.last = last;
            let screen = live.screen(&storm, 80);
            assert!(screen.len() <= 24, "{} lines", screen.len());
            let text = text(&screen);
            for line in &text {
                assert!(line.chars().count() <= 80, "{line}");
            }
            for phase in ["|health", "|slow", "|one-fifth", "|dead", "|reco", "|recovered"] {
                assert!(text[2].contains(phase), "{phase} in {}", text[2]);
            }
        }
    }

    fn text(screen: &[Line]) -> Vec<String> {
        screen.iter().map(|line| line.iter().map(|piece| piece.1.as_str()).collect()).collect()
    }

    #[test]
    fn sixty_columns_cut_off_no_number_and_no_key() {
        let storm = storm();
        let mut live = live(&storm);
        live.last = Some(storm.plan.seconds() - 1);
        let screen = text(&live.screen(&storm, 60));
        assert!(screen.len() <= 24, "{} lines", screen.len());
        for line in &screen {
            assert!(line.trim_end().chars().count() <= 60, "{line}");
        }
        for (row, value) in [("  capacity", "100/s"), ("  good", "/s"), ("  breaker", "closed")] {
            let line = screen.iter().find(|line| line.starts_with(row)).unwrap();
            assert!(line.trim_end().ends_with(value), "{line}");
        }
        let all = screen.join("\n");
        for key in ["6 recovered", "t time-out", "q ends"] {
            assert!(all.contains(key), "{key} in {all}");
        }
    }

    #[test]
    fn breaker_is_read_without_colours() {
        let states = ["closed", "open", "half_open", "isolated"];
        let seconds = states.map(|breaker| Second { breaker, ..Second::default() });
        let strip = Axis::new(4, 4, false, 60).strip(&seconds, "isolated");
        let mut letters: String = strip[1..strip.len() - 1].iter().map(|piece| piece.1.as_str()).collect();
        letters = letters
            .chars()
            .fold(String::new(), |all, next| if all.ends_with(next) { all } else { all + &next.to_string() });
        assert_eq!(letters, ".Oh-");
    }

    // Known from `script -c` without a keyboard: the Ctrl-D at the end of its input took the deadline out.
    #[test]
    fn keys_change_the_weather_and_the_layers_and_control_keys_only_interrupt() {
        let storm = storm();
        let mut live = live(&storm);
        let plain = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        for letter in ['d', 'q', '4'] {
            assert!(live.pressed(control(letter), &storm).is_none());
        }
        assert!(matches!(live.pressed(control('c'), &storm), Some(Command::Interrupt)));
        for ignored in [plain('x'), plain('9'), KeyEvent::new(KeyCode::Up, KeyModifiers::NONE)] {
            assert!(live.pressed(ignored, &storm).is_none());
        }
        assert_eq!((storm.was_touched(), live.layers), (false, Layers::ALL));

        assert!(live.pressed(plain('d'), &storm).is_none());
        assert!(!live.layers.has(Layer::Deadline) && storm.was_touched());
        assert!(matches!(live.pressed(plain('4'), &storm), Some(Command::Force(3))));
        assert!(matches!(live.pressed(plain('0'), &storm), Some(Command::Follow)));
        assert!(matches!(live.pressed(plain('q'), &storm), Some(Command::Leave)));
    }

    #[test]
    fn bars_show_the_highest_of_what_a_column_covers() {
        let axis = Axis::new(116, 116, false, 80);
        let mut values = vec![Some(0.0); 116];
        values[1] = Some(8.0);
        values[2] = Some(1.0);
        let line = axis.line("x", Color::Red, &values, 8.0, "");
        let bars: Vec<char> = line[1].1.chars().collect();
        assert_eq!((bars.len(), bars[0], bars[1], bars[2]), (AXIS, '█', '▁', '·'));
    }
}
