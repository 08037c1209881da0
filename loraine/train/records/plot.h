// Curves of a run as PNG and SVG (Cairo), named as LLaMA-Factory names them. Called at the end of training (plot_loss: true) and by
// loraine compare.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "loraine/train/records/python_number.h"

namespace loraine {

struct Curve {
  std::vector<double> steps, values;
};

// Exponential moving average with LLaMA-Factory's weight 1.8 · (1 / (1 + e^(-0.05 n)) - 0.5), started at the first value.
std::vector<double> smooth(const std::vector<double>& values);

// The curve of one key (loss, eval_loss, eval_accuracy, …) of log_history. Of several values at a step the first counts: the last
// evaluation while training, not the one of the finished run, which may be that of the best checkpoint.
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

// training_<key>.png and .svg in `folder` for each key that has values ("/" becomes "_"), titled by `run`, its output_dir. Gives the names
// of the files written.
std::vector<std::string> plot_training(const std::string& folder, const std::string& run, const std::vector<OrderedJson>& log_history,
                                       const std::vector<std::string>& keys = {"loss", "eval_loss", "eval_accuracy"});

// Ranks of modules over the steps of a run (AdaLoRA).
struct RankMap {
  std::vector<int64_t> steps;               // at which ranks changed, from 0
  std::vector<std::vector<int64_t>> ranks;  // [steps][modules]
  std::vector<std::string> modules;         // paths, "model.layers.0.self_attn.q_proj"
  int64_t most = 1;                         // the rank that is drawn darkest
  int64_t last_step = 1;
};
// training_ranks.png and .svg in `folder`: a row per module, layer by layer, steps from left to right, the darker the more ranks. Gives
// the names of the files written.
std::vector<std::string> plot_ranks(const std::string& folder, const std::string& run, const RankMap& map);

}  // namespace loraine
