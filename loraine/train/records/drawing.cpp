// See drawing.h.
#include "loraine/train/records/drawing.h"

#include <cairo-svg.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {

// About `wanted` ticks at 1, 2, 2.5 or 5 times a power of ten.
double tick_step(double span, int wanted, bool whole) {
  const double raw = span / wanted, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double nice : {1.0, 2.0, 2.5, 5.0, 10.0}) {
    const double step = nice * power;
    if (step >= raw * 0.999 && (!whole || step == std::floor(step))) return whole ? std::max(1.0, step) : step;
  }
  return whole ? std::max(1.0, 10 * power) : 10 * power;
}

Axis axis_over(const std::vector<double>& values, double margin, bool whole, int ticks) {
  double low = INFINITY, high = -INFINITY;
  for (const double v : values)
    if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  if (low > high) low = 0, high = 1;
  if (high - low < 1e-12 * std::max(1.0, std::abs(high))) {
    const double room = whole ? 1.0 : std::max(0.5 * std::abs(high), 0.5);
    low -= room, high += room;
  }
  const double room = margin * (high - low);
  Axis axis{low - room, high + room, 1};
  axis.step = tick_step(axis.high - axis.low, ticks, whole);
  return axis;
}

std::vector<double> ticks_of(const Axis& axis) {
  std::vector<double> out;
  const double first = std::ceil(axis.low / axis.step - 1e-9);
  for (int i = 0; i < 50; ++i) {
    const double value = (first + i) * axis.step;
    if (value > axis.high + 1e-9 * axis.step) break;
    out.push_back(std::abs(value) < 1e-9 * axis.step ? 0.0 : value);
  }
  return out;
}

std::string tick_text(double value, double step) {
  const double size = std::max(std::abs(value), step);
  if (value != 0 && (size >= 1e6 || size < 1e-4)) return fmt::format("{:.3g}", value);
  int decimals = 0;
  for (double s = step; decimals < 8 && std::abs(s - std::round(s)) > 1e-6 * s; s *= 10) ++decimals;
  return fmt::format("{:.{}f}", value, decimals);
}

// Cairo refuses invalid UTF-8: such bytes become "?". Control characters become spaces.
std::string drawable(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = text[i];
    const size_t length = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    bool valid = length > 0 && i + length <= text.size();
    for (size_t k = 1; valid && k < length; ++k) valid = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
    if (valid && length > 2) {  // overlong forms, surrogates, beyond U+10FFFF
      const unsigned char d = text[i + 1];
      valid = !(c == 0xe0 && d < 0xa0) && !(c == 0xed && d >= 0xa0) && !(c == 0xf0 && d < 0x90) && !(c == 0xf4 && d >= 0x90);
    }
    if (!valid) out += '?';
    else if (c < 0x20 || c == 0x7f) out += ' ';
    else out.append(text, i, length);
    i += valid ? length : 1;
  }
  return out;
}

void colour(cairo_t* cr, const Colour& c, double alpha) { cairo_set_source_rgba(cr, c.r, c.g, c.b, c.a * alpha); }

double text_width(cairo_t* cr, const std::string& text) {
  cairo_text_extents_t extents;
  cairo_text_extents(cr, text.c_str(), &extents);
  return extents.x_advance;
}

// align: 0 left, 0.5 centre, 1 right; y is the base line.
void draw_text(cairo_t* cr, double x, double y, const std::string& text, double align) {
  cairo_move_to(cr, x - align * text_width(cr, text), y);
  cairo_show_text(cr, text.c_str());
}

void font(cairo_t* cr, double size, bool bold) {
  cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(cr, size);
}

void draw_title(cairo_t* cr, const std::string& title) {
  font(cr, 14, true);
  colour(cr, kInk);
  std::string text = drawable(title);
  // A title too wide loses its middle: the start says what is shown, the end names the folder.
  while (text_width(cr, text) > kWidth - kLeft - kRight && text.size() > 24) {
    size_t from = text.size() / 2 - 4, to = from + 8;
    while (from > 0 && (text[from] & 0xc0) == 0x80) --from;
    while (to < text.size() && (text[to] & 0xc0) == 0x80) ++to;
    text = text.substr(0, from) + "…" + text.substr(to);
  }
  draw_text(cr, kLeft + (kWidth - kLeft - kRight) / 2, 28, text, 0.5);
}

void draw_frame(cairo_t* cr, const Axis& x, const Axis& y, const std::string& y_label, const std::string& x_label) {
  const double width = kWidth - kLeft - kRight, height = kHeight - kTop - kBottom;
  cairo_set_line_width(cr, 1);
  font(cr, 11);
  for (const double tick : ticks_of(y)) {
    const double at = std::round(kTop + height * (1 - y.at(tick))) + 0.5;
    colour(cr, kGrid);
    cairo_move_to(cr, kLeft, at);
    cairo_line_to(cr, kLeft + width, at);
    cairo_stroke(cr);
    colour(cr, kQuiet);
    draw_text(cr, kLeft - 9, at + 4, tick_text(tick, y.step), 1);
  }
  for (const double tick : ticks_of(x)) {
    const double at = std::round(kLeft + width * x.at(tick)) + 0.5;
    colour(cr, kGrid);
    cairo_move_to(cr, at, kTop);
    cairo_line_to(cr, at, kTop + height);
    cairo_stroke(cr);
    colour(cr, kQuiet);
    draw_text(cr, at, kTop + height + 18, tick_text(tick, x.step), 0.5);
  }
  colour(cr, kQuiet);
  cairo_move_to(cr, kLeft + 0.5, kTop);
  cairo_line_to(cr, kLeft + 0.5, kTop + height + 0.5);
  cairo_line_to(cr, kLeft + width, kTop + height + 0.5);
  cairo_stroke(cr);
  font(cr, 12.5);
  colour(cr, kInk);
  draw_text(cr, kLeft + width / 2, kHeight - 14, x_label, 0.5);
  cairo_save(cr);
  cairo_translate(cr, 20, kTop + height / 2);
  cairo_rotate(cr, -M_PI / 2);
  draw_text(cr, 0, 0, drawable(y_label), 0.5);
  cairo_restore(cr);
}

void draw_line(cairo_t* cr, const Axis& x, const Axis& y, const std::vector<double>& steps, const std::vector<double>& values, double alpha,
               double line_width, const Colour& ink) {
  const double width = kWidth - kLeft - kRight, height = kHeight - kTop - kBottom;
  const size_t count = std::min(steps.size(), values.size());
  colour(cr, ink, alpha);
  cairo_set_line_width(cr, line_width);
  cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
  cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
  bool down = false;
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i]) || !std::isfinite(steps[i])) {
      down = false;  // a gap
      continue;
    }
    const double px = kLeft + width * x.at(steps[i]), py = kTop + height * (1 - y.at(values[i]));
    down ? cairo_line_to(cr, px, py) : cairo_move_to(cr, px, py);
    down = true;
  }
  cairo_stroke(cr);
  if (count > 30) return;
  for (size_t i = 0; i < count; ++i) {  // few points: show where they lie
    if (!std::isfinite(values[i]) || !std::isfinite(steps[i])) continue;
    cairo_new_sub_path(cr);
    cairo_arc(cr, kLeft + width * x.at(steps[i]), kTop + height * (1 - y.at(values[i])), line_width + 0.8, 0, 2 * M_PI);
    cairo_fill(cr);
  }
}

// The white field behind a legend.
void draw_field(cairo_t* cr, double x, double y, double width, double height) {
  const double r = 4;
  cairo_new_sub_path(cr);
  cairo_arc(cr, x + width - r, y + r, r, -M_PI / 2, 0);
  cairo_arc(cr, x + width - r, y + height - r, r, 0, M_PI / 2);
  cairo_arc(cr, x + r, y + height - r, r, M_PI / 2, M_PI);
  cairo_arc(cr, x + r, y + r, r, M_PI, 1.5 * M_PI);
  cairo_close_path(cr);
  cairo_set_source_rgba(cr, 1, 1, 1, 0.88);
  cairo_fill_preserve(cr);
  colour(cr, {0.82, 0.83, 0.85});
  cairo_set_line_width(cr, 1);
  cairo_stroke(cr);
}

namespace {

cairo_status_t collect(void* closure, const unsigned char* data, unsigned int length) {
  try {
    static_cast<std::string*>(closure)->append(reinterpret_cast<const char*>(data), length);
    return CAIRO_STATUS_SUCCESS;
  } catch (...) {  // no exception may cross Cairo
    return CAIRO_STATUS_NO_MEMORY;
  }
}

}  // namespace

std::string drawing_bytes(const std::string& path, const std::function<void(cairo_t*)>& draw_on) {
  const bool svg = path.ends_with(".svg");
  if (!svg && !path.ends_with(".png")) throw Error(ErrorKind::usage, fmt::format("{}: a plot is a .png or .svg file", path), "");
  std::string bytes;
  const auto check = [&](cairo_status_t status) {
    if (status != CAIRO_STATUS_SUCCESS)
      throw Error(ErrorKind::internal, fmt::format("{}: drawing failed: {}", path, cairo_status_to_string(status)), "");
  };
  using Surface = std::unique_ptr<cairo_surface_t, decltype(&cairo_surface_destroy)>;
  const Surface surface(
      svg ? cairo_svg_surface_create_for_stream(collect, &bytes, kWidth, kHeight)
          : cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(kWidth * kPixels), static_cast<int>(kHeight * kPixels)),
      cairo_surface_destroy);
  check(cairo_surface_status(surface.get()));
  {
    const std::unique_ptr<cairo_t, decltype(&cairo_destroy)> cr(cairo_create(surface.get()), cairo_destroy);
    if (!svg) cairo_scale(cr.get(), kPixels, kPixels);
    draw_on(cr.get());
    check(cairo_status(cr.get()));
  }
  if (!svg) check(cairo_surface_write_to_png_stream(surface.get(), collect, &bytes));
  cairo_surface_finish(surface.get());
  check(cairo_surface_status(surface.get()));
  return bytes;
}

void write_drawing(const std::string& path, const std::function<void(cairo_t*)>& draw_on) {
  write_file(path, drawing_bytes(path, draw_on));
}

}  // namespace loraine
