// Every name that the architecture knows is asked for what it stands for; the first that stands for a tensor has it.
#include "loraine/io/gguf/gguf_outputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf_names.h"

namespace loraine {
namespace {

using enum GgufForm;

[[noreturn]] void not_written(const std::string& what) {
  throw Error(ErrorKind::unsupported, what,
              "export with export_format: huggingface, and convert that folder with llama.cpp's convert_hf_to_gguf.py");
}

class OutputPlan {
 public:
  OutputPlan(const GgufArchitecture& architecture, const std::vector<NamedShape>& tensors, GgufHeads heads)
      : architecture_(architecture), heads_(heads) {
    for (const NamedShape& tensor : tensors) shapes_[tensor.name] = &tensor;
  }

  void add(const std::string& name) {
    const auto target = gguf_target(architecture_, name);
    if (!target || target->form == left_out || target->name.empty()) return;
    if (target->form == thirds || target->form == halves) return;  // whose parts have names of their own
    GgufOutput output{.name = name, .plus_one = target->minus_one};
    if (target->name.find("{}") != std::string::npos) return add_stack(std::move(output), *target);
    const auto found = shapes_.find(target->name);
    if (found == shapes_.end()) return;
    const bool half = target->form == first_half || target->form == second_half;
    if (used_.contains(target->name) && !(half && halves_.contains(target->name))) return;
    output.sources = {target->name};
    output.shape = found->second->shape;
    switch (target->form) {
      case as_stored:
      case unshifted:
      case one_row: break;
      case first_half:
      case second_half: halve(output, target->form == second_half); break;
      case by_head: order_by_head(output.order, output.shape[0], heads_.heads); break;
      default:
        not_written(fmt::format("the tensor {} stands in a GGUF of the architecture {} in another form ({}), which is not written",
                                in_quotes(target->name), architecture_.name, name));
    }
    if (target->pairs) pair_rows(output);
    if (half) halves_.insert(target->name);
    used_.insert(target->name);
    outputs_.push_back(std::move(output));
  }

  std::vector<GgufOutput> finish() {
    for (const auto& [name, tensor] : shapes_)
      if (!used_.contains(name) && !name.ends_with(".rotary_emb.inv_freq"))
        not_written(fmt::format("the tensor {} has no place in a GGUF of the architecture {}", in_quotes(name), architecture_.name));
    return std::move(outputs_);
  }

 private:
  void pair_rows(GgufOutput& output) const {
    const int64_t count = output.name.find(".attn_k") != std::string::npos ? heads_.kv_heads : heads_.heads;
    if (count <= 0 || output.shape[0] % (2 * count) != 0)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{} has {} rows, expected an even number for each of {} heads", output.sources[0], output.shape[0], count));
    order_pairs(output.order, 0, output.shape[0], count);
  }

  static void halve(GgufOutput& output, bool second) {
    int64_t& rows = output.shape[output.shape.size() - 2];
    rows /= 2;
    output.first_row = second ? rows : 0;
  }

  void add_stack(GgufOutput output, const GgufTarget& target) {
    const auto source = [&](int64_t index) {
      std::string name = target.name;
      name.replace(name.find("{}"), 2, std::to_string(index));
      return name;
    };
    while (shapes_.contains(source(static_cast<int64_t>(output.sources.size())))) {
      const std::string name = source(static_cast<int64_t>(output.sources.size()));
      if (used_.contains(name)) return;
      output.sources.push_back(name);
    }
    if (output.sources.empty()) return;
    const std::vector<int64_t>& shape = shapes_.at(output.sources[0])->shape;
    for (const std::string& name : output.sources) {
      if (shapes_.at(name)->shape != shape) throw Error(ErrorKind::bad_data, name + " has another shape than " + output.sources[0]);
      used_.insert(name);
    }
    output.shape = shape;
    output.shape.insert(output.shape.begin(), static_cast<int64_t>(output.sources.size()));
    outputs_.push_back(std::move(output));
  }

  const GgufArchitecture& architecture_;
  GgufHeads heads_;
  std::map<std::string, const NamedShape*> shapes_;
  std::set<std::string> used_, halves_;
  std::vector<GgufOutput> outputs_;
};

// With .weight and .bias where the table leaves that open.
void add_names(OutputPlan& plan, const std::string& before, GgufNames names) {
  for (const GgufName& name : names) {
    const std::string whole = before + std::string(name.gguf);
    plan.add(whole);
    if (name.gguf.ends_with(".weight") || name.gguf.ends_with(".bias")) continue;
    plan.add(whole + ".weight");
    plan.add(whole + ".bias");
  }
}

}  // namespace

void order_pairs(std::vector<int64_t>& order, int64_t first, int64_t rows, int64_t heads) {
  const int64_t head_rows = rows / heads;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_rows, in_head = row % head_rows, half = in_head / (head_rows / 2), i = in_head % (head_rows / 2);
    order.push_back(first + head * head_rows + 2 * i + half);
  }
}

void order_by_head(std::vector<int64_t>& order, int64_t rows, int64_t heads) {
  const int64_t head_rows = rows / 3 / heads;
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t part = 0; part < 3; ++part)
      for (int64_t row = 0; row < head_rows; ++row) order.push_back((part * heads + head) * head_rows + row);
}

std::vector<GgufOutput> gguf_outputs(const GgufArchitecture& architecture, const std::vector<NamedShape>& tensors, GgufHeads heads,
                                     int64_t layers) {
  OutputPlan plan(architecture, tensors, heads);
  add_names(plan, "", architecture.traits.top);
  add_names(plan, "", gguf_common_names(false));
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::string before = fmt::format("blk.{}.", layer);
    for (const GgufNames& names : architecture.block) add_names(plan, before, names);
    add_names(plan, before, gguf_common_names(true));
  }
  return plan.finish();
}

}  // namespace loraine
