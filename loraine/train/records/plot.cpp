// Curves of a run drawn with Cairo: light original, smoothed curve over it, grid, ticks and legend.
#include "loraine/train/records/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "loraine/core/error.h"
#include "loraine/train/records/drawing.h"

namespace loraine {
namespace {

// In the upper corner that the curve leaves free.
void draw_legend(cairo_t* cr, bool right) {
  const double width = 104, height = 46, x = right ? kWidth - kRight - width - 10 : kLeft + 12, y = kTop + 8;
  draw_field(cr, x, y, width, height);
  font(cr, 11);
  int row = 0;
  for (const auto& [name, alpha, line_width] : {std::tuple{"original", 0.4, 1.5}, {"smoothed", 1.0, 2.0}}) {
    const double at = y + 16 + 18 * row++;
    colour(cr, kBlue, alpha);
    cairo_set_line_width(cr, line_width);
    cairo_move_to(cr, x + 10, at - 1);
    cairo_line_to(cr, x + 34, at - 1);
    cairo_stroke(cr);
    colour(cr, kInk);
    draw_text(cr, x + 42, at + 3, name, 0);
  }
}

void draw(cairo_t* cr, const Curve& curve, const std::string& title, const std::string& y_label) {
  cairo_set_source_rgb(cr, 1, 1, 1);
  cairo_paint(cr);
  const std::vector<double> smoothed = smooth(curve.values);
  const Axis x = axis_over(curve.steps, 0.03, true, 8), y = axis_over(curve.values, 0.08, false, 6);
  draw_title(cr, title);
  draw_frame(cr, x, y, y_label);
  draw_line(cr, x, y, curve.steps, curve.values, 0.4, 1.5);
  draw_line(cr, x, y, curve.steps, smoothed, 1.0, 2.0);
  // The legend goes where the curve is lower: a falling loss leaves the right, a rising accuracy the left.
  double left = 0, right = 0;
  const size_t tail = std::max<size_t>(1, smoothed.size() / 5);
  for (size_t i = 0; i < tail && i < smoothed.size(); ++i) left += smoothed[i], right += smoothed[smoothed.size() - 1 - i];
  draw_legend(cr, !(right > left));
}

// Tableau's ten colours, as matplotlib has them.
constexpr Colour kColours[kMostCurves] = {{0x1f / 255.0, 0x77 / 255.0, 0xb4 / 255.0}, {0xff / 255.0, 0x7f / 255.0, 0x0e / 255.0},
                                          {0x2c / 255.0, 0xa0 / 255.0, 0x2c / 255.0}, {0xd6 / 255.0, 0x27 / 255.0, 0x28 / 255.0},
                                          {0x94 / 255.0, 0x67 / 255.0, 0xbd / 255.0}, {0x8c / 255.0, 0x56 / 255.0, 0x4b / 255.0},
                                          {0xe3 / 255.0, 0x77 / 255.0, 0xc2 / 255.0}, {0x7f / 255.0, 0x7f / 255.0, 0x7f / 255.0},
                                          {0xbc / 255.0, 0xbd / 255.0, 0x22 / 255.0}, {0x17 / 255.0, 0xbe / 255.0, 0xcf / 255.0}};

void draw_curves(cairo_t* cr, const std::vector<NamedCurve>& curves, const std::string& title, const std::string& y_label) {
  cairo_set_source_rgb(cr, 1, 1, 1);
  cairo_paint(cr);
  std::vector<double> steps, values;
  for (const NamedCurve& one : curves) {
    steps.insert(steps.end(), one.curve.steps.begin(), one.curve.steps.end());
    values.insert(values.end(), one.curve.values.begin(), one.curve.values.end());
  }
  const Axis x = axis_over(steps, 0.03, true, 8);
  Axis y = axis_over(values, 0.08, false, 6);
  const double legend = 18 + 18 * static_cast<double>(curves.size()), height = kHeight - kTop - kBottom;
  y.high += (y.high - y.low) * legend / (height - legend);  // room above the curves
  draw_title(cr, title);
  draw_frame(cr, x, y, y_label);
  for (size_t i = 0; i < curves.size(); ++i) draw_line(cr, x, y, curves[i].curve.steps, curves[i].curve.values, 0.9, 1.8, kColours[i]);
  font(cr, 11);
  double width = 0;
  for (const NamedCurve& one : curves) width = std::max(width, text_width(cr, drawable(one.name)));
  width = std::min(width + 52, kWidth - kLeft - kRight - 20);
  const double left = kWidth - kRight - width - 10, top = kTop + 8;
  draw_field(cr, left, top, width, 10 + 18 * static_cast<double>(curves.size()));
  font(cr, 11);
  for (size_t i = 0; i < curves.size(); ++i) {
    const double at = top + 16 + 18 * static_cast<double>(i);
    colour(cr, kColours[i]);
    cairo_set_line_width(cr, 1.8);
    cairo_move_to(cr, left + 10, at - 1);
    cairo_line_to(cr, left + 34, at - 1);
    cairo_stroke(cr);
    colour(cr, kInk);
    draw_text(cr, left + 42, at + 3, drawable(curves[i].name), 0);
  }
}

}  // namespace

std::vector<double> smooth(const std::vector<double>& values) {
  std::vector<double> out;
  if (values.empty()) return out;
  const double weight = 1.8 * (1 / (1 + std::exp(-0.05 * static_cast<double>(values.size()))) - 0.5);
  double last = values[0];
  for (const double value : values) {
    // After a value that is not a number the average starts anew.
    last = std::isfinite(last) ? last * weight + (1 - weight) * value : value;
    out.push_back(last);
  }
  return out;
}

Curve curve_of(const std::vector<OrderedJson>& log_history, const std::string& key) {
  Curve out;
  for (const OrderedJson& entry : log_history) {
    if (!entry.contains(key) || !entry[key].is_number() || !entry.contains("step") || !entry["step"].is_number()) continue;
    const double step = entry["step"].get<double>();
    if (!out.steps.empty() && out.steps.back() == step) continue;
    out.steps.push_back(step);
    out.values.push_back(entry[key].get<double>());
  }
  return out;
}

namespace {

struct ModulePlace {
  int64_t layer;
  std::string name;  // the module's own, "q_proj"
  size_t index;
};

// Layer by layer, in a layer by path.
std::vector<ModulePlace> by_layer(const std::vector<std::string>& modules) {
  std::vector<ModulePlace> places;
  for (size_t i = 0; i < modules.size(); ++i) {
    const std::string& path = modules[i];
    const size_t digits = path.find_first_of("0123456789");
    places.push_back({digits == std::string::npos ? -1 : std::atoll(path.c_str() + digits), path.substr(path.rfind('.') + 1), i});
  }
  std::ranges::stable_sort(places, {}, &ModulePlace::layer);
  return places;
}

// White for no rank, dark blue for the most.
void rank_colour(cairo_t* cr, double share) { cairo_set_source_rgb(cr, 1 - share * 0.94, 1 - share * 0.70, 1 - share * 0.42); }

void draw_rank_rows(cairo_t* cr, const RankMap& map, const std::vector<ModulePlace>& places, double left, double width) {
  const double row = (kHeight - kTop - kBottom) / static_cast<double>(std::max<size_t>(places.size(), 1));
  auto x_of = [&](int64_t step) {
    return left + width * static_cast<double>(step) / static_cast<double>(std::max<int64_t>(map.last_step, 1));
  };
  font(cr, std::clamp(row * 0.8, 5.0, 11.0));
  for (size_t r = 0; r < places.size(); ++r) {
    const double y = kTop + row * static_cast<double>(r);
    for (size_t s = 0; s < map.steps.size(); ++s) {
      const int64_t end = s + 1 < map.steps.size() ? map.steps[s + 1] : map.last_step;
      rank_colour(cr, static_cast<double>(map.ranks[s][places[r].index]) / static_cast<double>(std::max<int64_t>(map.most, 1)));
      cairo_rectangle(cr, x_of(map.steps[s]), y, x_of(end) - x_of(map.steps[s]) + 0.3, row + 0.3);
      cairo_fill(cr);
    }
    const bool first_of_layer = r == 0 || places[r - 1].layer != places[r].layer;
    if (first_of_layer && r > 0) {
      colour(cr, kQuiet, 0.6);
      cairo_set_line_width(cr, 0.6);
      cairo_move_to(cr, left, y);
      cairo_line_to(cr, left + width, y);
      cairo_stroke(cr);
    }
    colour(cr, kQuiet);
    const bool every_row = row >= 6;
    if (every_row || first_of_layer)
      draw_text(cr, left - 6, y + (every_row ? row * 0.75 : 8),
                drawable(fmt::format("{} {}", places[r].layer, every_row ? places[r].name : "")), 1);
  }
}

void draw_ranks(cairo_t* cr, const RankMap& map, const std::string& title) {
  constexpr double kNames = 40, kScale = 56;  // room for names on the left, for the colour scale on the right
  const double left = kLeft + kNames, width = kWidth - left - kRight - kScale, height = kHeight - kTop - kBottom;
  cairo_set_source_rgb(cr, 1, 1, 1);
  cairo_paint(cr);
  draw_title(cr, title);
  draw_rank_rows(cr, map, by_layer(map.modules), left, width);
  Axis x{0, static_cast<double>(std::max<int64_t>(map.last_step, 1)), 1};
  x.step = tick_step(x.high, 8, true);
  font(cr, 11);
  for (const double tick : ticks_of(x)) {
    colour(cr, kQuiet);
    draw_text(cr, left + width * x.at(tick), kTop + height + 18, tick_text(tick, x.step), 0.5);
  }
  font(cr, 12.5);
  colour(cr, kInk);
  draw_text(cr, left + width / 2, kHeight - 14, "step", 0.5);
  const double scale_x = left + width + 18;
  for (int64_t r = 0; r <= map.most; ++r) {
    const double cell = std::min(18.0, height / static_cast<double>(map.most + 1)), y = kTop + height - cell * static_cast<double>(r + 1);
    rank_colour(cr, static_cast<double>(r) / static_cast<double>(std::max<int64_t>(map.most, 1)));
    cairo_rectangle(cr, scale_x, y, 12, cell + 0.3);
    cairo_fill(cr);
    if (r != 0 && r != map.most && cell < 12) continue;
    font(cr, 10);
    colour(cr, kQuiet);
    draw_text(cr, scale_x + 16, y + cell * 0.75, fmt::format("{}", r), 0);
  }
  font(cr, 11);
  colour(cr, kInk);
  const double cells = std::min(18.0, height / static_cast<double>(map.most + 1)) * static_cast<double>(map.most + 1);
  draw_text(cr, scale_x, kTop + height - cells - 6, "rank", 0);
  colour(cr, kQuiet, 0.6);
  cairo_set_line_width(cr, 0.6);
  cairo_rectangle(cr, scale_x, kTop + height - cells, 12, cells);
  cairo_rectangle(cr, left, kTop, width, height);
  cairo_stroke(cr);
}

}  // namespace

void plot_curve(const std::string& path, const Curve& curve, const std::string& title, const std::string& y_label) {
  write_drawing(path, [&](cairo_t* cr) { draw(cr, curve, title, y_label); });
}

void plot_curves(const std::string& path, const std::vector<NamedCurve>& curves, const std::string& title, const std::string& y_label) {
  if (curves.size() > kMostCurves)
    throw Error(ErrorKind::usage, fmt::format("{}: {} curves for one picture, at most {} fit", path, curves.size(), kMostCurves));
  write_drawing(path, [&](cairo_t* cr) { draw_curves(cr, curves, title, y_label); });
}

std::vector<std::string> plot_ranks(const std::string& folder, const std::string& run, const RankMap& map) {
  std::vector<std::string> written;
  for (const char* name : {"training_ranks.png", "training_ranks.svg"}) {
    write_drawing(folder + "/" + name, [&](cairo_t* cr) { draw_ranks(cr, map, "ranks of " + run); });
    written.push_back(name);
  }
  return written;
}

std::vector<std::string> plot_training(const std::string& folder, const std::string& run, const std::vector<OrderedJson>& log_history,
                                       const std::vector<std::string>& keys) {
  std::vector<std::string> written;
  for (const std::string& key : keys) {
    const Curve curve = curve_of(log_history, key);
    if (curve.values.empty()) continue;
    std::string name = "training_" + key;
    std::replace(name.begin(), name.end(), '/', '_');
    for (const char* extension : {".png", ".svg"}) {
      plot_curve(folder + "/" + name + extension, curve, "training " + key + " of " + run, key);
      written.push_back(name + extension);
    }
  }
  return written;
}

}  // namespace loraine
