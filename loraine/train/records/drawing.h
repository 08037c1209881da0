// What pictures of a run are drawn with (Cairo): axes with ticks, frames, lines, and the file. Used by plot.cpp and reliability_plot.cpp.
#pragma once
#include <cairo.h>

#include <functional>
#include <string>
#include <vector>

namespace loraine {

constexpr double kWidth = 640, kHeight = 480, kPixels = 2;  // a PNG has kPixels pixels per unit
constexpr double kLeft = 74, kRight = 20, kTop = 46, kBottom = 56;

struct Colour {
  double r, g, b, a = 1;
};
constexpr Colour kBlue{0x1f / 255.0, 0x77 / 255.0, 0xb4 / 255.0}, kInk{0.13, 0.14, 0.16}, kQuiet{0.36, 0.38, 0.41}, kGrid{0.90, 0.91, 0.92};

struct Axis {
  double low = 0, high = 1, step = 1;
  double at(double value) const { return (value - low) / (high - low); }  // 0 to 1
};
double tick_step(double span, int wanted, bool whole);
Axis axis_over(const std::vector<double>& values, double margin, bool whole, int ticks);
std::vector<double> ticks_of(const Axis& axis);
std::string tick_text(double value, double step);

// A text that Cairo takes.
std::string drawable(const std::string& text);
void colour(cairo_t* cr, const Colour& c, double alpha = 1);
double text_width(cairo_t* cr, const std::string& text);
// align: 0 left, 0.5 centre, 1 right; y is the base line.
void draw_text(cairo_t* cr, double x, double y, const std::string& text, double align);
void font(cairo_t* cr, double size, bool bold = false);
void draw_title(cairo_t* cr, const std::string& title);
void draw_frame(cairo_t* cr, const Axis& x, const Axis& y, const std::string& y_label, const std::string& x_label = "step");
void draw_line(cairo_t* cr, const Axis& x, const Axis& y, const std::vector<double>& steps, const std::vector<double>& values, double alpha,
               double line_width, const Colour& ink = kBlue);
// The white field behind a legend.
void draw_field(cairo_t* cr, double x, double y, double width, double height);

// The bytes of a picture; path: .png or .svg, usage otherwise.
std::string drawing_bytes(const std::string& path, const std::function<void(cairo_t*)>& draw_on);
void write_drawing(const std::string& path, const std::function<void(cairo_t*)>& draw_on);

}  // namespace loraine
