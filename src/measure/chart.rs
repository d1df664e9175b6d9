//! Charts as SVG: lines over two logarithmic axes, and bars.

use indicatif::HumanCount;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (860, 520);
/// Colours that people who see few colours tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(120, 120, 120)];

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Points by rising x; both numbers are greater than 0.
    pub points: Vec<(f64, f64)>,
}

/// What a chart says.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub lines: &'a [Line],
}

impl Chart<'_> {
    /// The chart as SVG.
    pub fn svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())?;
        Ok(svg)
    }

    fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> anyhow::Result<()> {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let (x, y) = (span(all().map(|point| point.0)), span(all().map(|point| point.1)));
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((x.0..x.1).log_scale(), (y.0..y.1).log_scale())?;
        let number = |value: &f64| format!("{value}");
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.into_iter().cycle()) {
            let style = colour.stroke_width(2);
            let drawn = LineSeries::new(line.points.iter().copied(), style).point_size(3);
            chart
                .draw_series(drawn)?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        let mut legend = chart.configure_series_labels();
        legend.background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.4));
        legend.position(SeriesLabelPosition::UpperLeft).draw()?;
        area.present()?;
        Ok(())
    }
}

/// Bars with their names and values, as SVG.
pub fn bars(title: &str, unit: &str, bars: &[(String, f64)]) -> anyhow::Result<String> {
    let mut svg = String::new();
    draw_bars(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), title, unit, bars)?;
    Ok(svg)
}

fn draw_bars(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    unit: &str,
    bars: &[(String, f64)],
) -> anyhow::Result<()> {
    let highest = bars.iter().map(|bar| bar.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(20)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..bars.len() as f64, 0.0..highest * 1.15)?;
    chart.configure_mesh().disable_x_mesh().disable_x_axis().y_desc(unit).draw()?;
    let place = TextStyle::from(("sans-serif", 15)).pos(Pos::new(HPos::Center, VPos::Bottom));
    for (number, (name, value)) in bars.iter().enumerate() {
        let left = number as f64;
        let corners = [(left + 0.2, 0.0), (left + 0.8, *value)];
        let label = format!("{name}: {}", HumanCount(*value as u64));
        chart.draw_series([Rectangle::new(corners, COLOURS[0].filled())])?;
        let above = (left + 0.5, value + highest * 0.02);
        chart.draw_series([Text::new(label, above, place.clone())])?;
    }
    area.present()?;
    Ok(())
}

/// Powers of ten around the values.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN_POSITIVE), |(l, h), value| (l.min(value), h.max(value)));
    if low > high {
        return (1.0, 10.0);
    }
    let (low, high) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (10_f64.powi(low), 10_f64.powi(high.max(low + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_powers_of_ten() {
        assert_eq!(span([2.0, 300.0].into_iter()), (1.0, 1_000.0));
        assert_eq!(span([10.0].into_iter()), (10.0, 100.0));
        assert_eq!(span([].into_iter()), (1.0, 10.0));
    }

    #[test]
    fn bars_have_names_and_values() {
        let cases = [("1 workers".to_owned(), 480_000.0), ("2 workers".to_owned(), 610_000.0)];
        let svg = bars("workers", "events/s", &cases).unwrap();
        for text in ["1 workers: 480,000", "2 workers: 610,000", "events/s", "</svg>"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }

    #[test]
    fn a_chart_names_its_axes_and_lines() {
        let line = |name: &str, factor: f64| Line {
            name: name.to_owned(),
            points: vec![(1.0, factor), (10.0, 2.0 * factor), (100.0, 3.0 * factor)],
        };
        let lines = [line("new events", 0.1), line("all anew", 4.0)];
        let chart = Chart { title: "the price", x: "events", y: "seconds", lines: &lines };
        let svg = chart.svg().unwrap();
        for text in ["the price", "events", "seconds", "new events", "all anew", "</svg>"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }
}
