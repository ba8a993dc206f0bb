//! Charts as SVG, written by hand: grouped bars, and lines over a logarithmic axis. Colours are readable on
//! white and on black. The values of every chart are also in the table next to it.

use std::fmt::Write as _;

/// One colour for each contender. The palette is distinguishable with red-green colour blindness (Okabe and
/// Ito).
const COLOURS: [&str; 8] =
    ["#999999", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#f0e442"];
const WIDTH: f64 = 900.0;
const PANEL_HEIGHT: f64 = 220.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;
const LEGEND_LINE: f64 = 18.0;

/// One set of axes of a bar chart.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) groups: Vec<Group>,
}

/// Adjacent bars that share a label.
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) bars: Vec<f64>,
}

/// One line of a line chart.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Points as (x, y).
    pub(crate) points: Vec<(f64, f64)>,
}

fn colour(index: usize) -> &'static str {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or("#000000")
}

fn svg_header(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"24\" \
         font-size=\"16\">{title}</text>\n"
    )
}

fn legend(names: &[&str], from: f64, out: &mut String) {
    for (place, name) in names.iter().enumerate() {
        let y = from + LEGEND_LINE * (place / 2) as f64;
        let x = LEFT + (place % 2) as f64 * (WIDTH - LEFT) / 2.0;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{name}</text>",
            colour(place),
            x + 18.0,
            y + 10.0
        );
    }
}

/// Rounds `value` up to a round number for the end of an axis.
fn axis_maximum(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 1.25, 1.5, 2.0, 2.5, 4.0, 5.0, 7.5, 10.0];
    steps.into_iter().map(|step| step * magnitude).find(|top| *top >= value).unwrap_or(value)
}

fn grid(base: f64, top: f64, out: &mut String) {
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let y = base - share * (PANEL_HEIGHT - 60.0);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            WIDTH - 20.0,
            LEFT - 6.0,
            y + 4.0,
            number(share * top)
        );
    }
}

fn number(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Draws a bar chart with its panels below each other.
pub(crate) fn bars(title: &str, names: &[&str], panels: &[Panel]) -> String {
    let legend_height = LEGEND_LINE * names.len().div_ceil(2) as f64 + 20.0;
    let height = TOP + PANEL_HEIGHT * panels.len() as f64 + legend_height;
    let mut out = svg_header(title, height);
    for (row, panel) in panels.iter().enumerate() {
        let base = TOP + PANEL_HEIGHT * row as f64 + PANEL_HEIGHT - 40.0;
        let most = panel.groups.iter().flat_map(|group| group.bars.iter().copied()).fold(0.0, f64::max);
        let top = axis_maximum(most);
        grid(base, top, &mut out);
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
            base - PANEL_HEIGHT + 50.0,
            panel.title
        );
        let room = (WIDTH - LEFT - 20.0) / panel.groups.len().max(1) as f64;
        for (index, group) in panel.groups.iter().enumerate() {
            let start = LEFT + room * (index as f64 + 0.1);
            let width = room * 0.8 / group.bars.len().max(1) as f64;
            for (bar, value) in group.bars.iter().enumerate() {
                let tall = value / top * (PANEL_HEIGHT - 60.0);
                let _ = writeln!(
                    out,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{}\"/>",
                    start + width * bar as f64,
                    base - tall,
                    width * 0.9,
                    colour(bar)
                );
            }
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                start + room * 0.4,
                base + 18.0,
                group.label
            );
        }
    }
    legend(names, height - legend_height + 6.0, &mut out);
    out + "</svg>\n"
}

/// Draws a line chart with a logarithmic horizontal axis.
pub(crate) fn lines(title: &str, lines: &[Line]) -> String {
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    let legend_height = LEGEND_LINE * names.len().div_ceil(2) as f64 + 20.0;
    let height = TOP + PANEL_HEIGHT + legend_height;
    let mut out = svg_header(title, height);
    let base = TOP + PANEL_HEIGHT - 40.0;
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let top = axis_maximum(points().map(|(_, value)| *value).fold(0.0, f64::max));
    let end = points().map(|(x, _)| x.max(1.0).log10()).fold(0.0, f64::max).ceil().max(1.0);
    grid(base, top, &mut out);
    let across = |x: f64| LEFT + 20.0 + x.max(1.0).log10() / end * (WIDTH - LEFT - 60.0);
    for step in 0..=(end as u32) {
        let x = 10_f64.powi(i32::try_from(step).unwrap_or_default());
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x}</text>",
            across(x),
            base + 18.0
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let drawn: Vec<String> = line
            .points
            .iter()
            .map(|(x, value)| format!("{:.1},{:.1}", across(*x), base - value / top * (PANEL_HEIGHT - 60.0)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            drawn.join(" "),
            colour(number)
        );
    }
    legend(&names, height - legend_height + 6.0, &mut out);
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_for_every_value_and_ends() {
        let group = || Group { label: "1".to_owned(), bars: vec![1.0, 0.5] };
        let panels = [Panel { title: "t".to_owned(), groups: vec![group(), group()] }];
        let drawn = bars("title", &["a", "b"], &panels);
        // Four bars, two keys of the legend, and the background.
        assert_eq!(drawn.matches("<rect").count(), 7);
        assert!(drawn.ends_with("</svg>\n"));
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert!((axis_maximum(0.93) - 1.0).abs() < 1e-9);
        assert!((axis_maximum(1.9) - 2.0).abs() < 1e-9);
        assert!((axis_maximum(130.0) - 150.0).abs() < 1e-9);
    }
}
