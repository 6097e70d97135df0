//! Draws small charts as inline SVG. Colours are CSS variables, so that they follow the theme.

use std::fmt::Write;

use super::text::escaped;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
/// Space for half of the longest label of the x axis.
const RIGHT: f64 = 24.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// A named series of points.
pub struct Series<'a> {
    pub name: &'a str,
    pub points: &'a [(f64, f64)],
}

/// The labels of the axes.
pub struct Axes<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
}

/// Returns the colour of a series.
fn colour(number: usize) -> String {
    format!("var(--series-{})", number % 4 + 1)
}

/// The ranges of the axes.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    /// Returns the position of a point in the picture.
    fn position(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low).max(1e-12);
        (
            LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - share(y, self.y) * (HEIGHT - TOP - BOTTOM),
        )
    }

    fn svg(&self, axes: &Axes<'_>, names: &[&str], inside: &str) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><title>{}</title>",
            escaped(axes.title),
            escaped(axes.title)
        );
        for tick in ticks(self.y) {
            let (_, y) = self.position(self.x.0, tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(tick, self.y.1 - self.y.0)
            );
        }
        for tick in ticks(self.x) {
            let (x, _) = self.position(tick, self.y.0);
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM + 16.0,
                number(tick, self.x.1 - self.x.0)
            );
        }
        svg.push_str(inside);
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" x=\"14\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1})\">{}</text></svg>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 8.0,
            escaped(axes.x),
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escaped(axes.y)
        );
        figure(&svg, names)
    }
}

fn figure(svg: &str, names: &[&str]) -> String {
    let mut key = String::new();
    if names.len() > 1 {
        key.push_str("<p class=\"key\">");
        for (number, name) in names.iter().enumerate() {
            let _ = write!(key, "<span style=\"--c:{}\">{}</span> ", colour(number), escaped(name));
        }
        key.push_str("</p>");
    }
    format!("<figure>{key}{svg}</figure>")
}

/// Returns round numbers inside a range, for the ticks of an axis.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let span = (high - low).max(1e-12);
    let power = 10f64.powf((span / 4.0).log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|step| span / step <= 5.0).unwrap_or(power);
    let first = (low / step).ceil() as i64;
    (first..).map(|number| number as f64 * step).take_while(|tick| *tick <= high + step * 1e-6).collect()
}

/// Returns a tick's value, with the digits that distinguish it from its neighbour.
fn number(value: f64, span: f64) -> String {
    if value.abs() >= 10_000.0 {
        return format!("{:.0} k", value / 1_000.0);
    }
    let digits = (1.0 - span.max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}");
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Returns the smallest and the greatest finite value, `with` included; never an empty range.
fn range(values: impl Iterator<Item = f64>, with: Option<f64>) -> (f64, f64) {
    let (low, high) = values
        .chain(with)
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { (0.0, 1.0) } else { (low, if high > low { high } else { low + 1.0 }) }
}

/// The range of a y axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum YRange {
    /// From zero to the greatest value.
    ZeroToMaximum,
    /// From zero to one, for shares and probabilities.
    ZeroToOne,
}

/// Draws a line chart.
pub fn lines(axes: &Axes<'_>, series: &[Series<'_>], y_range: YRange) -> String {
    let frame = frame_of(series, y_range);
    frame.svg(axes, &names(series), &polylines(&frame, series))
}

/// Draws a line chart from zero to one on both axes, with dots that are labelled with their number of values.
pub fn counted_lines(axes: &Axes<'_>, series: &[Series<'_>], dots: &[(f64, f64, usize)]) -> String {
    let frame = Frame { x: (0.0, 1.0), y: (0.0, 1.0) };
    let mut inside = polylines(&frame, series);
    for (x, y, count) in dots.iter().filter(|(x, y, _)| x.is_finite() && y.is_finite()) {
        let (x, y) = frame.position(*x, *y);
        // Near the axis there is room only above.
        let below = if y + 18.0 > HEIGHT - BOTTOM { -8.0 } else { 17.0 };
        let _ = write!(
            inside,
            "<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\
             <text class=\"tick count\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>",
            y + below
        );
    }
    frame.svg(axes, &names(series), &inside)
}

fn names<'a>(series: &[Series<'a>]) -> Vec<&'a str> {
    series.iter().map(|series| series.name).collect()
}

fn frame_of(series: &[Series<'_>], y_range: YRange) -> Frame {
    let all = || series.iter().flat_map(|series| series.points.iter().copied());
    let y = match y_range {
        YRange::ZeroToMaximum => range(all().map(|p| p.1), Some(0.0)),
        YRange::ZeroToOne => (0.0, 1.0),
    };
    Frame { x: range(all().map(|p| p.0), None), y }
}

fn polylines(frame: &Frame, series: &[Series<'_>]) -> String {
    let mut inside = String::new();
    for (number, series) in series.iter().enumerate() {
        let points: Vec<String> = series
            .points
            .iter()
            .filter(|p| p.1.is_finite())
            .map(|p| {
                let (x, y) = frame.position(p.0, p.1);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = write!(
            inside,
            "<polyline class=\"line\" stroke=\"{}\" points=\"{}\"/>",
            colour(number),
            points.join(" ")
        );
    }
    inside
}

/// Draws overlaid histograms over the range `x`; each series holds one share per bar.
pub fn histograms(axes: &Axes<'_>, x: (f64, f64), series: &[(&str, &[f64])]) -> String {
    let frame = Frame { x, y: range(series.iter().flat_map(|(_, bars)| bars.iter().copied()), Some(0.0)) };
    let mut inside = String::new();
    for (number, (_, bars)) in series.iter().enumerate() {
        let step = (x.1 - x.0) / bars.len().max(1) as f64;
        for (bar, share) in bars.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let (left, top) = frame.position(x.0 + bar as f64 * step, *share);
            let (right, bottom) = frame.position(x.0 + (bar + 1) as f64 * step, 0.0);
            let _ = write!(
                inside,
                "<rect class=\"bar\" fill=\"{}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                colour(number),
                right - left - 0.5,
                bottom - top
            );
        }
    }
    frame.svg(axes, &series.iter().map(|(name, _)| *name).collect::<Vec<_>>(), &inside)
}

/// A point on a map.
pub struct Dot {
    pub x: f64,
    pub y: f64,
    /// Number of the group, which determines the colour.
    pub group: usize,
    /// Text shown on hovering.
    pub title: String,
}

/// Draws a scatter plot without axes, as high as the other charts; every group has its colour.
pub fn scatter(title: &str, dots: &[Dot]) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>",
        escaped(title)
    );
    let position = |value: f64, size: f64| size / 2.0 + value * (size / 2.0 - 12.0);
    for dot in dots {
        // The golden angle gives neighbouring numbers different hues.
        let hue = (dot.group as f64 * 137.508) % 360.0;
        let light = [48, 60, 38][dot.group % 3];
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"hsl({hue:.0} 65% {light}%)\"><title>{}</title></circle>",
            position(dot.x, WIDTH),
            position(dot.y, HEIGHT),
            escaped(&dot.title)
        );
    }
    svg.push_str("</svg>");
    figure(&svg, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_points_near_the_axis_are_above_the_points() {
        let axes = Axes { title: "t", x: "x", y: "y" };
        let svg = counted_lines(&axes, &[], &[(0.5, 0.5, 123), (0.1, 0.0, 45), (f64::NAN, 0.5, 6)]);
        let height_of = |count: &str| {
            let before = svg.split(&format!(">{count}</text>")).next().unwrap();
            let y = before.rsplit(" y=\"").next().unwrap().split('"').next().unwrap();
            y.parse::<f64>().unwrap()
        };
        assert_eq!(
            svg.matches("class=\"mark\"").count(),
            2,
            "values that are not finite have no point: {svg}"
        );
        assert!(
            height_of("45") < HEIGHT - BOTTOM && height_of("123") > (HEIGHT - BOTTOM + TOP) / 2.0,
            "{svg}"
        );
    }
}
