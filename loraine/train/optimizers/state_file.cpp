// One tensor for each state.
#include "loraine/train/optimizers/state_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine {
namespace {

std::string path_in(const std::string& folder) { return folder + "/optimizer.safetensors"; }

// What is wrong with a file's tensor for a state, or nothing.
std::string mismatch(const OptimizerState& state, const TensorInfo* info) {
  const Tensor& values = state.values;
  if (info == nullptr) return state.name + " is missing";
  if (info->shape != std::vector<int64_t>(values.shape, values.shape + values.rank))
    return fmt::format("{} has shape [{}], this run needs {}", state.name, fmt::join(info->shape, ", "), values.shape_text());
  if (info->dtype != values.dtype || info->packed)
    return fmt::format("{} is {}, expected {}", state.name, info->stored_as, name_of(values.dtype));
  return "";
}

}  // namespace

void write_optimizer_state(const std::string& folder, const std::vector<OptimizerState>& states) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const OptimizerState& state : states) tensors.emplace_back(state.name, state.values);
  write_safetensors(path_in(folder), tensors, {{"format", "pt"}});
}

void read_optimizer_state(const std::string& folder, const std::vector<OptimizerState>& states) {
  constexpr size_t kNamed = 5;
  const std::string path = path_in(folder);
  const auto source = open_safetensors(path);
  std::vector<std::string> problems;
  std::set<std::string> expected;
  for (const OptimizerState& state : states) {
    expected.insert(state.name);
    if (std::string problem = mismatch(state, source->find(state.name)); !problem.empty()) problems.push_back(std::move(problem));
  }
  for (const TensorInfo& info : source->tensors())
    if (!expected.contains(info.name)) problems.push_back(info.name + " belongs to no parameter of this run");
  if (const size_t count = problems.size(); count > 0) {
    problems.resize(std::min(count, kNamed));
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: {}{}", path, fmt::join(problems, ", "), count > kNamed ? fmt::format(" and {} more", count - kNamed) : ""),
                "resume with the settings the checkpoint was made with (optimizer, rank, targets, model), or start anew");
  }
  for (const OptimizerState& state : states) {
    const TensorInfo& info = *source->find(state.name);
    if (state.values.dtype == Dtype::F32) {
      source->read(info, state.values);
      continue;
    }
    const Tensor mapped = source->map(info);
    if (!mapped.data)
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} does not lie at a multiple of its element's size", path, state.name),
                  "resume from another checkpoint");
    std::memcpy(state.values.data, mapped.data, mapped.bytes());
  }
}

}  // namespace loraine
