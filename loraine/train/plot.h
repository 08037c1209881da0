// Curves of a run as PNG and SVG (Cairo), named as LLaMA-Factory names them. Called at the end of training (plot_loss: true) and by
// loraine compare.
#pragma once
#include <string>
#include <vector>

#include "loraine/train/python_number.h"

namespace loraine {

struct Curve {
  std::vector<double> steps, values;
};

// Exponential moving average with LLaMA-Factory's weight 1.8 · (1 / (1 + e^(-0.05 n)) - 0.5), started at the first value.
std::vector<double> smooth(const std::vector<double>& values);

// The curve of one key (loss, eval_loss, eval_accuracy, …) of log_history.
Curve curve_of(const std::vector<OrderedJson>& log_history, const std::string& key);

// Writes path (".png" or ".svg"): the original in light colour and the smoothed curve over it. Error io when the file cannot be written.
void plot_curve(const std::string& path, const Curve& curve, const std::string& title, const std::string& y_label);

// Several curves in one picture, each with its name; at most kMostCurves (usage otherwise).
struct NamedCurve {
  std::string name;
  Curve curve;
};
inline constexpr size_t kMostCurves = 10;
void plot_curves(const std::string& path, const std::vector<NamedCurve>& curves, const std::string& title, const std::string& y_label);

// training_<key>.png and .svg in output_dir for each key that has values ("/" becomes "_"). Gives the names of the files written.
std::vector<std::string> plot_training(const std::string& output_dir, const std::vector<OrderedJson>& log_history,
                                       const std::vector<std::string>& keys = {"loss", "eval_loss", "eval_accuracy"});

}  // namespace loraine
