//! Plots as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Colours that people with colour blindness can tell apart, too.
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// A line of a plot: its name and its points.
pub type Line<'a> = (&'a str, &'a [(f64, f64)]);

/// The values of an axis.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// Returns 0 for the beginning of the axis and 1 for its end.
    fn fraction(self, value: f64) -> f64 {
        let (from, to, value) = match self.logarithmic {
            true => (self.from.ln(), self.to.ln(), value.max(self.from).ln()),
            false => (self.from, self.to, value),
        };
        if to > from { (value - from) / (to - from) } else { 0.5 }
    }

    /// Returns the values with labels.
    fn labels(self) -> Vec<f64> {
        if self.logarithmic {
            let decades = self.from.log10().ceil() as i32..=self.to.log10().floor() as i32;
            return decades.map(|power| 10_f64.powi(power)).collect();
        }
        let step = nice_step((self.to - self.from) / 5.0);
        (0..=6)
            .map(|n| (self.from / step).ceil() * step + f64::from(n) * step)
            .filter(|v| *v <= self.to)
            .collect()
    }
}

/// Returns the next step of 1, 2 or 5 times a power of ten.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power)
}

/// Draws lines over two axes that begin at zero.
pub fn lines(title: &str, x_name: &str, y_name: &str, lines: &[Line<'_>]) -> String {
    let all = || lines.iter().flat_map(|(_, points)| points.iter());
    let x = Scale {
        from: 0.0,
        to: all().map(|point| point.0).fold(1e-9, f64::max),
        logarithmic: false,
    };
    let y = Scale {
        from: 0.0,
        to: all().map(|point| point.1).fold(1e-9, f64::max) * 1.05,
        logarithmic: false,
    };
    let mut svg = frame(title, x_name, y_name);
    for value in x.labels() {
        x_label(&mut svg, x.fraction(value), &short(value));
    }
    for value in y.labels() {
        y_label(&mut svg, y.fraction(value), &short(value));
    }
    for (number, (name, points)) in lines.iter().enumerate() {
        let placed: Vec<_> =
            points.iter().map(|point| (x.fraction(point.0), y.fraction(point.1))).collect();
        curve(&mut svg, number, name, &placed);
        for (x, y) in placed {
            let (x, y) =
                (LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM));
            let colour = COLOURS[number % COLOURS.len()];
            let _ = write!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>");
        }
    }
    svg + "</svg>"
}

/// Draws times in microseconds by percentile. Percentiles near 100 are farther apart, so that the
/// tail is visible.
pub fn percentiles(title: &str, lines: &[Line<'_>]) -> String {
    let times = || lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.1.max(1.0)));
    let low = times().fold(f64::INFINITY, f64::min).min(1e6);
    let high = times().fold(low * 10.0, f64::max);
    let y = Scale { from: low, to: high, logarithmic: true };
    let rest = |percentile: f64| 100.0 / (100.0 - percentile.min(99.9999));
    let x = Scale { from: 1.0, to: rest(99.9999), logarithmic: true };
    let mut svg = frame(title, "percentile", "ms");
    for percentile in [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999] {
        x_label(&mut svg, x.fraction(rest(percentile)), &percentile.to_string());
    }
    for value in y.labels() {
        y_label(&mut svg, y.fraction(value), &short(value / 1_000.0));
    }
    for (number, (name, points)) in lines.iter().enumerate() {
        let placed: Vec<_> =
            points.iter().map(|point| (x.fraction(rest(point.0)), y.fraction(point.1))).collect();
        curve(&mut svg, number, name, &placed);
    }
    svg + "</svg>"
}

/// Draws a bar for each name, with a line from the least to the greatest value of its runs, and a
/// dashed line at 1.
pub fn bars(title: &str, bars: &[(&str, f64, f64, f64)]) -> String {
    const ROOM: f64 = 30.0;
    const NAMES: f64 = 190.0;
    let high = bars.iter().map(|bar| bar.3).fold(1.0, f64::max) * 1.02;
    let at = |value: f64| NAMES + value / high * (WIDTH - RIGHT - NAMES);
    let height = TOP + ROOM * bars.len() as f64 + 14.0;
    let mut svg = opening(title, 14.0, height);
    let _ = write!(
        svg,
        "<line x1='{0:.1}' x2='{0:.1}' y1='{TOP}' y2='{1:.1}' stroke='#000' stroke-dasharray='4 3'/>",
        at(1.0),
        height - 10.0
    );
    for (number, (name, middle, least, greatest)) in bars.iter().enumerate() {
        let top = TOP + ROOM * number as f64;
        let centre = top + ROOM / 2.0;
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>\
             <rect x='{NAMES}' y='{:.1}' width='{:.1}' height='{:.1}' fill='{}'/>\
             <path d='M{:.1} {centre:.1}H{:.1}m0 -4v8M{:.1} {:.1}v8' stroke='#000' fill='none'/>\
             <text x='{:.1}' y='{:.1}' stroke='#fff' stroke-width='4' paint-order='stroke'>\
             {middle:.2} ({least:.2}–{greatest:.2})</text>",
            NAMES - 8.0,
            centre + 4.0,
            escaped(name),
            top + 4.0,
            at(*middle) - NAMES,
            ROOM - 8.0,
            COLOURS[number % COLOURS.len()],
            at(*least),
            at(*greatest),
            at(*least),
            centre - 4.0,
            at(*greatest) + 8.0,
            centre + 4.0,
        );
    }
    svg + "</svg>"
}

/// Escapes text for markup, without the code marks that it has in tables.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('`', "")
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        large if large >= 10_000.0 => format!("{:.0}k", value / 1_000.0),
        middle if middle >= 1.0 => format!("{}", (value * 100.0).round() / 100.0),
        _ => format!("{}", (value * 10_000.0).round() / 10_000.0),
    }
}

/// Returns the beginning of a picture with a title.
fn opening(title: &str, left: f64, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' \
         font-family='system-ui,sans-serif' font-size='12'><rect width='100%' height='100%' fill='#fff'/>\
         <text x='{left}' y='24' font-size='15'>{}</text>",
        escaped(title)
    )
}

fn frame(title: &str, x_name: &str, y_name: &str) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut svg = opening(title, LEFT, HEIGHT);
    let _ = write!(
        svg,
        "<path d='M{LEFT} {TOP}V{bottom}H{right}' fill='none' stroke='#000'/>\
         <text x='{:.0}' y='{:.0}' text-anchor='middle'>{}</text>\
         <text x='16' y='{:.0}' text-anchor='middle' transform='rotate(-90 16 {:.0})'>{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 10.0,
        escaped(x_name),
        (TOP + bottom) / 2.0,
        (TOP + bottom) / 2.0,
        escaped(y_name)
    );
    svg
}

fn x_label(svg: &mut String, fraction: f64, text: &str) {
    let x = LEFT + fraction * (WIDTH - LEFT - RIGHT);
    let bottom = HEIGHT - BOTTOM;
    let _ = write!(
        svg,
        "<line x1='{x:.1}' x2='{x:.1}' y1='{TOP}' y2='{bottom}' stroke='#ddd'/>\
         <text x='{x:.1}' y='{:.1}' text-anchor='middle'>{text}</text>",
        bottom + 18.0
    );
}

fn y_label(svg: &mut String, fraction: f64, text: &str) {
    let y = HEIGHT - BOTTOM - fraction * (HEIGHT - TOP - BOTTOM);
    let right = WIDTH - RIGHT;
    let _ = write!(
        svg,
        "<line x1='{LEFT}' x2='{right}' y1='{y:.1}' y2='{y:.1}' stroke='#ddd'/>\
         <text x='{:.1}' y='{:.1}' text-anchor='end'>{text}</text>",
        LEFT - 6.0,
        y + 4.0
    );
}

/// Draws points, given as parts of the axes, and their name at the side.
fn curve(svg: &mut String, number: usize, name: &str, points: &[(f64, f64)]) {
    let colour = COLOURS[number % COLOURS.len()];
    let mut path = String::new();
    for (x, y) in points {
        let x = LEFT + x.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - BOTTOM - y.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
    }
    let beside = WIDTH - RIGHT + 12.0;
    let _ = write!(
        svg,
        "<path d='{path}' fill='none' stroke='{colour}' stroke-width='2'/>\
         <text x='{beside}' y='{:.0}' fill='{colour}'>{}</text>",
        TOP + 18.0 * (number as f64 + 1.0),
        escaped(name)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plot_is_complete_and_has_only_finite_numbers() {
        let points = [(0.0, 1.0), (50.0, 900.0), (99.99, 16_000.0), (100.0, 70_000.0)];
        let plots = [
            lines("a & b", "x", "y", &[("one", &points), ("two", &points[..1])]),
            lines("none", "x", "y", &[]),
            percentiles("p", &[("one", &points)]),
            percentiles("p", &[]),
            bars("b", &[("one", 2.0, 1.0, 3.0), ("two", 5.0, 5.0, 5.0)]),
        ];
        for svg in plots {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(lines("a & b", "", "", &[]).contains("a &amp; b"));
    }

    #[test]
    fn labels_are_round_numbers() {
        assert_eq!(Scale { from: 0.0, to: 11.0, logarithmic: false }.labels(), [0.0, 5.0, 10.0]);
        assert_eq!(
            Scale { from: 1.0, to: 1_000.0, logarithmic: true }.labels(),
            [1.0, 10.0, 100.0, 1_000.0]
        );
    }
}
