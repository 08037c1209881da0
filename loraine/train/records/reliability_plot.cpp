// See reliability_plot.h.
#include "loraine/train/records/reliability_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "loraine/train/records/drawing.h"

namespace loraine {
namespace {

constexpr Colour kOrange{0xff / 255.0, 0x7f / 255.0, 0x0e / 255.0}, kRed{0xd6 / 255.0, 0x27 / 255.0, 0x28 / 255.0};

struct Box {
  double x, y, width, height;
};

void bar(cairo_t* cr, const Box& box, const Colour& ink, double alpha) {
  colour(cr, ink, alpha);
  cairo_rectangle(cr, box.x, box.y, box.width, box.height);
  cairo_fill(cr);
}

void draw_bins(cairo_t* cr, std::span<const ReliabilityBin> bins, const Axis& axis) {
  const double width = kWidth - kLeft - kRight, height = kHeight - kTop - kBottom, share = 1 / static_cast<double>(bins.size());
  const auto y_of = [&](double value) { return kTop + height * (1 - axis.at(value)); };
  for (size_t i = 0; i < bins.size(); ++i) {
    if (bins[i].count == 0) continue;
    const double x = kLeft + width * share * static_cast<double>(i) + 1, wide = width * share - 2;
    bar(cr, {x, y_of(bins[i].accuracy), wide, y_of(0) - y_of(bins[i].accuracy)}, kBlue, 0.75);
    const double top = std::max(bins[i].accuracy, bins[i].confidence), bottom = std::min(bins[i].accuracy, bins[i].confidence);
    bar(cr, {x, y_of(top), wide, y_of(bottom) - y_of(top)}, kRed, 0.35);
  }
}

// How many decisions each bin has, from the lower edge up: a tenth of the picture at most.
void draw_counts(cairo_t* cr, std::span<const ReliabilityBin> bins) {
  const double width = kWidth - kLeft - kRight, floor = kHeight - kBottom, share = 1 / static_cast<double>(bins.size());
  int64_t most = 1;
  for (const ReliabilityBin& bin : bins) most = std::max(most, bin.count);
  font(cr, 9);
  for (size_t i = 0; i < bins.size(); ++i) {
    if (bins[i].count == 0) continue;
    const double x = kLeft + width * share * static_cast<double>(i),
                 high = 34.0 * static_cast<double>(bins[i].count) / static_cast<double>(most);
    bar(cr, {x + width * share * 0.3, floor - high, width * share * 0.4, high}, {1, 1, 1}, 0.55);
    colour(cr, kInk);
    draw_text(cr, x + width * share / 2, floor - 4, fmt::format("{}", bins[i].count), 0.5);
  }
}

struct LegendLine {
  std::string text;
  Colour ink;
  double alpha;
  bool line;
};

void draw_legend_of(cairo_t* cr, const std::vector<LegendLine>& lines) {
  font(cr, 11);
  double width = 0;
  for (const LegendLine& one : lines) width = std::max(width, text_width(cr, one.text));
  const double x = kLeft + 12, y = kTop + 8;
  draw_field(cr, x, y, width + 54, 10 + 18 * static_cast<double>(lines.size()));
  font(cr, 11);
  for (size_t i = 0; i < lines.size(); ++i) {
    const double at = y + 16 + 18 * static_cast<double>(i);
    if (lines[i].line) {
      colour(cr, lines[i].ink, lines[i].alpha);
      cairo_set_line_width(cr, 1.8);
      cairo_move_to(cr, x + 10, at - 1);
      cairo_line_to(cr, x + 34, at - 1);
      cairo_stroke(cr);
    } else {
      bar(cr, {x + 10, at - 6, 24, 10}, lines[i].ink, lines[i].alpha);
    }
    colour(cr, kInk);
    draw_text(cr, x + 42, at + 3, lines[i].text, 0);
  }
}

}  // namespace

std::string reliability_png(const ReliabilityPlot& plot) {
  return drawing_bytes("reliability.png", [&](cairo_t* cr) {
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    const Axis axis{0, 1, 0.2};
    draw_title(cr, plot.title);
    draw_frame(cr, axis, axis, "share of them that is right", "probability of the likeliest choice");
    draw_bins(cr, plot.calibrated, axis);
    draw_line(cr, axis, axis, {0, 1}, {0, 1}, 0.6, 1, kQuiet);
    std::vector<double> x, y;
    for (const ReliabilityBin& bin : plot.before)
      if (bin.count > 0) x.push_back(bin.confidence), y.push_back(bin.accuracy);
    if (plot.temperature != 1) draw_line(cr, axis, axis, x, y, 0.9, 1.6, kOrange);
    draw_counts(cr, plot.calibrated);
    std::vector<LegendLine> lines = {
        {fmt::format("temperature {:.3f}: calibration error {:.3f}", plot.temperature, calibration_error(plot.calibrated)), kBlue, 0.75,
         false},
        {"what is missing, or too much", kRed, 0.35, false}};
    if (plot.temperature != 1)
      lines.push_back({fmt::format("before: calibration error {:.3f}", calibration_error(plot.before)), kOrange, 0.9, true});
    draw_legend_of(cr, lines);
  });
}

}  // namespace loraine
