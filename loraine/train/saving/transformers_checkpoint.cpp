// optimizer.pt numbers the parameters group by group; the groups are those that transformers and LLaMA-Factory make.
#include "loraine/train/saving/transformers_checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/torch/torch_file.h"
#include "loraine/train/optimizers/model_order.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kOptimizer = "/optimizer.pt";
constexpr const char* kScheduler = "/scheduler.pt";
constexpr const char* kState = "/trainer_state.json";

bool there(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::bad_data, path + ": " + what,
              "resume with the settings that the checkpoint was made with (rank, targets, model), or train on from its adapter: "
              "adapter_name_or_path");
}

// The group that a parameter is in: Trainer's with and without weight decay, or LLaMA-Factory's four of LoRA+.
int group_of(const Parameter& p, bool loraplus) {
  if (!loraplus) return decays(p.name) ? 0 : 1;
  if (p.name.find("lora_embedding_B") != std::string::npos) return 3;
  const bool vector = p.value.rows() == 1 && p.name.find("lora_") == std::string::npos;
  if (p.name.find("lora_B") != std::string::npos || vector) return decays(p.name) ? 1 : 2;
  return 0;
}

// Places of the parameters in the order of their numbers in optimizer.pt.
std::vector<size_t> numbered(const std::vector<Parameter>& parameters, bool loraplus) {
  std::vector<size_t> order = model_order(parameters);
  std::ranges::stable_sort(order, {}, [&](size_t i) { return group_of(parameters[i], loraplus); });
  return order;
}

// The numbers of all groups, which count up from 0.
size_t count_of(const std::string& path, const Json& values) {
  size_t count = 0;
  try {
    for (const Json& group : values.at("param_groups"))
      for (const Json& number : group.at("params"))
        if (number.get<size_t>() != count++) bad(path, "its param_groups do not number the parameters one after another");
  } catch (const Json::exception& e) { bad(path, std::string("is not the state of an optimizer: ") + e.what()); }
  return count;
}

}  // namespace

bool is_transformers_checkpoint(const std::string& folder) {
  return there(folder + kState) && there(folder + kOptimizer) && !there(folder + "/" + kCheckpointMarker) &&
         !there(folder + "/training_state.json");
}

std::optional<std::string> transformers_checkpoint_damage(const std::string& folder) {
  try {
    read_trainer_state(folder);
    Json values;
    open_torch_state(folder + kOptimizer, values);
  } catch (const Error& error) {
    if (error.kind == ErrorKind::io) throw;
    return error.what();
  }
  for (const char* name : {"/adapter_model.safetensors", "/adapter_model.bin", "/model.safetensors", "/model.safetensors.index.json",
                           "/pytorch_model.bin", "/pytorch_model.bin.index.json"})
    if (there(folder + name)) return {};
  return "it has no weights";
}

TrainingState transformers_position(const std::string& folder, const TrainConfig& c, const TrainerState& state, int64_t updates_per_epoch) {
  TrainingState position;
  position.step = state.global_step;
  position.epoch = state.global_step / updates_per_epoch;
  position.batch_in_epoch = state.global_step % updates_per_epoch * c.gradient_accumulation_steps;
  position.seed = static_cast<uint64_t>(c.seed);
  if (c.lr_scheduler_type != "reduce_lr_on_plateau") return position;  // the others depend on the step alone
  const std::string path = folder + kScheduler;
  Json values;
  open_torch_state(path, values);
  try {
    const Json scheduler = {{"type", c.lr_scheduler_type},
                            {"best", values.at("best")},
                            {"bad_evaluations", values.at("num_bad_epochs")},
                            {"cooldown_left", values.at("cooldown_counter")},
                            {"scale", c.learning_rate > 0 ? values.at("_last_lr").at(0).get<double>() / c.learning_rate : 1.0}};
    position.scheduler = scheduler.dump();
  } catch (const Json::exception& e) { bad(path, std::string("is not the state of reduce_lr_on_plateau: ") + e.what()); }
  return position;
}

int64_t read_transformers_optimizer(const std::string& folder, const TrainConfig& c, const Optimizer& optimizer) {
  const std::string path = folder + kOptimizer;
  if (!c.optim.starts_with("adamw_torch") && c.optim != "adamw_apex_fused")
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: of transformers' checkpoints those of AdamW are gone on from, and optim is {}", path, c.optim),
                "train on from its adapter instead: adapter_name_or_path");
  Json values;
  const auto source = open_torch_state(path, values);
  const std::vector<Parameter>& parameters = optimizer.parameters();
  const std::vector<OptimizerState> states = optimizer.states();
  const auto state = [&](const std::string& name) {
    const auto found = std::ranges::find(states, name, &OptimizerState::name);
    if (found == states.end()) throw Error(ErrorKind::internal, "no state " + name);
    return found->values;
  };
  const size_t count = count_of(path, values);
  if (count != parameters.size()) bad(path, fmt::format("has states of {} parameters, and this run trains {}", count, parameters.size()));
  std::optional<double> updates;
  size_t number = 0;
  for (const size_t i : numbered(parameters, c.loraplus_lr_ratio.has_value())) {
    const std::string of = fmt::format("state.{}.", number++);
    const Parameter& p = parameters[i];
    for (const auto& [theirs, ours] : {std::pair{"exp_avg", ".m"}, {"exp_avg_sq", ".v"}}) {
      const TensorInfo* info = source->find(of + theirs);
      if (!info) bad(path, fmt::format("{}{} is missing, the state of {}", of, theirs, p.name));
      const Tensor to = state(p.name + ours);
      std::vector<int64_t> shape = info->shape;
      if (shape.size() == 1) shape.insert(shape.begin(), 1);  // a vector is one row here
      const bool same = shape.size() == 2 &&
                        ((shape[0] == to.rows() && shape[1] == to.cols()) || (shape[0] == 1 && to.cols() == 1 && to.rows() == shape[1]));
      if (!same)
        bad(path, fmt::format("{}{} has shape [{}], and {} needs {}", of, theirs, fmt::join(info->shape, ", "), p.name, to.shape_text()));
      source->read(*info, Tensor(to.data, to.dtype, std::span<const int64_t>(info->shape)));
    }
    const TensorInfo* step = source->find(of + "step");
    float done = 0;
    if (step) source->read(*step, Tensor(&done, Dtype::F32, std::span<const int64_t>(step->shape)));
    else if (const Json& plain = values["state"][std::to_string(number - 1)];
             plain.is_object() && plain.contains("step") && plain["step"].is_number())
      done = plain["step"].get<float>();
    else bad(path, of + "step is missing");
    if (updates && *updates != done) bad(path, "its parameters have seen different numbers of updates");
    updates = done;
  }
  if (!updates || !(*updates >= 0) || *updates > 1e9) bad(path, "it counts no updates");
  return std::llround(*updates);
}

}  // namespace loraine
