// FP8 as transformers' quant_method "fp8" has it (DeepSeek's form): P.weight F8_E4M3 [out, in], and P.weight_scale_inv, which it is
// multiplied with in spite of its name: one for each block of weight_block_size rows and columns, or one for the whole matrix. Facts:
// transformers' integrations/finegrained_fp8.py. How activations are rounded there (activation_scheme) is left out: they stay as they are.
#include <fmt/format.h>

#include "loraine/io/files/json_text.h"
#include "loraine/io/quantised/formats.h"

namespace loraine {
namespace {

constexpr std::string_view kWeight = ".weight";

struct Block {
  int64_t rows = 0, cols = 0;  // 0: one scale for the matrix
};

Block block_size(const QuantisedFolder& folder) {
  if (folder.text({"expert_dtype"}, "fp8") != "fp8")
    folder.refuse("has experts in fp4 beside fp8, which are not read", "use a copy of the model whose experts are in fp8");
  const auto size = folder.config.find("weight_block_size");
  if (size == folder.config.end()) return {128, 128};
  if (size->is_null()) return {};
  const auto is_size = [](const Json& one) { return one.is_number_integer() && one >= 1 && one <= kLargestSize; };
  if (!size->is_array() || size->size() != 2 || !is_size((*size)[0]) || !is_size((*size)[1]))
    folder.refuse("has the weight_block_size " + in_quotes(size->dump()) + ", expected two numbers", "is the file complete?");
  return {(*size)[0].get<int64_t>(), (*size)[1].get<int64_t>()};
}

GroupedWeight fp8_weight(const QuantisedFolder& folder, Block block, const TensorInfo& info) {
  const TensorInfo* scales = folder.beside(info, info.name + "_scale_inv", {"F32", "BF16", "F16", "F8_E8M0", "U8"});
  const int64_t out = info.shape[0], in = info.shape[1];
  if (out == 0 || in == 0) folder.bad(info, "is empty");
  int64_t count = 1;
  for (const int64_t size : scales->shape) count *= size;
  const bool single = count == 1 && (block.rows == 0 || (out <= block.rows && in <= block.cols) || scales->shape.size() < 2);
  if (!single && block.rows == 0)
    folder.bad(*scales, fmt::format("has shape {}, expected one number, as weight_block_size says", sizes_text(scales->shape)));
  if (!single) folder.expect_shape(*scales, {(out + block.rows - 1) / block.rows, (in + block.cols - 1) / block.cols});

  GroupedWeight weight{info.name, Dtype::F8_GROUPS, out, in, {info.name, scales->name}, info.file};
  weight.stored_as = "FP8, activations in full";
  const std::string module = info.name.substr(0, info.name.size() - kWeight.size());
  if (folder.source->find(module + ".activation_scale")) weight.made_of.push_back(module + ".activation_scale");
  take_as_they_lie(folder, info, weight);
  weight.group = [&folder, scales, single, block, out, in](GroupTables& tables) {
    GroupedCodes& g = tables.groups;
    g.group_rows = single ? out : block.rows;
    g.group_cols = single ? in : block.cols;
    g.groups = single ? 1 : scales->shape[1];
    keep_scales(folder, *scales, tables);
  };
  return weight;
}

}  // namespace

std::vector<GroupedWeight> fp8_weights(const QuantisedFolder& folder) {
  const Block block = block_size(folder);
  std::vector<GroupedWeight> all;
  for (const TensorInfo& info : folder.source->tensors())
    if (info.name.ends_with(kWeight) && info.stored_as == "F8_E4M3" && info.shape.size() == 2)
      all.push_back(fp8_weight(folder, block, info));
  return all;
}

}  // namespace loraine
