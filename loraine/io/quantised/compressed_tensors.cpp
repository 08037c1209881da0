// compressed-tensors. What a module's weight is follows from the group of config_groups that has it among its targets, and from the format:
//   pack-quantized        P.weight_packed I32 [out, ⌈in · bits / 32⌉]: streams of q + 2^(bits − 1), the lowest bits first; P.weight_shape;
//                         asymmetric: P.weight_zero_point, packed so down each column; P.weight_g_idx: the group of each column
//   int-, float-, naive-quantized, mxfp8-quantized   P.weight I8 or F8_E4M3; P.weight_zero_point I8
//   nvfp4-, mxfp4-pack-quantized   P.weight_packed U8 [out, in / 2], the low half first; P.weight_global_scale, which scales are divided by
// each with P.weight_scale. Facts: compressed_tensors 0.20's compressors and quantization/lifecycle/forward.py. Activations stay as they
// are, whatever input_activations says.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/core/parallel.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/quantised/compressed_scheme.h"
#include "loraine/io/quantised/formats.h"

namespace loraine {
namespace {

constexpr std::string_view kPacked = ".weight_packed", kPlain = ".weight";

std::string activations_text(const CompressedScheme& scheme) { return scheme.rounds_activations ? ", activations in full" : ""; }

// Rows and columns of a group, and how many there are of them. The scales' shape must be theirs.
struct GroupShape {
  int64_t group_rows = 1, group_cols = 1, row_groups = 1, groups = 1;
};

GroupShape group_shape(const QuantisedFolder& folder, const CompressedScheme& scheme, const TensorInfo& scales, int64_t out, int64_t in) {
  GroupShape shape;
  const std::string& strategy = scheme.strategy;
  if (strategy == "tensor") shape = {out, in, 1, 1};
  else if (strategy == "channel") shape = {1, in, out, 1};
  else if (strategy == "block")
    shape = {scheme.block_rows, scheme.block_cols, (out + scheme.block_rows - 1) / scheme.block_rows,
             (in + scheme.block_cols - 1) / scheme.block_cols};
  else shape = {1, scheme.group_size, out, (in + scheme.group_size - 1) / scheme.group_size};
  if (strategy == "tensor") {
    int64_t count = 1;
    for (const int64_t size : scales.shape) count *= size;
    if (count != 1) folder.bad(scales, fmt::format("has shape {}, expected one number", sizes_text(scales.shape)));
  } else if (!(strategy == "channel" && scales.shape == std::vector<int64_t>{out})) {
    folder.expect_shape(scales, {shape.row_groups, shape.groups});
  }
  return shape;
}

Dtype packed_codes(int64_t bits) {
  return bits == 2 ? Dtype::U2_GROUPS : bits == 3 ? Dtype::U3_GROUPS : bits == 4 ? Dtype::U4_GROUPS : Dtype::U8_GROUPS;
}

// The shape [out, in] that P.weight_shape says.
std::pair<int64_t, int64_t> written_shape(const QuantisedFolder& folder, const TensorInfo& info) {
  folder.expect_shape(info, {2});
  const TensorBytes bytes = folder.bytes(info);
  int64_t sizes[2];
  for (size_t i = 0; i < 2; ++i) {
    int32_t narrow = 0;
    if (info.stored_as == "I64") std::memcpy(&sizes[i], bytes.data + 8 * i, 8);
    else std::memcpy(&narrow, bytes.data + 4 * i, 4), sizes[i] = narrow;
    if (sizes[i] < 1 || sizes[i] > INT32_MAX) folder.bad(info, fmt::format("says {}, which is no size", sizes[i]));
  }
  return {sizes[0], sizes[1]};
}

// Zeros of whole numbers as they are stored: [row groups, groups] I8, or bits packed down each column.
Buffer whole_zeros(const QuantisedFolder& folder, const TensorInfo& info, const GroupShape& shape, int64_t bits) {
  const TensorBytes bytes = folder.bytes(info);
  Buffer zeros(static_cast<size_t>(shape.row_groups * shape.groups));
  auto* all = static_cast<uint8_t*>(zeros.data());
  if (info.stored_as == "I8") {
    for (int64_t i = 0; i < shape.row_groups * shape.groups; ++i) all[i] = static_cast<uint8_t>(bytes.data[i] ^ 0x80);
    return zeros;
  }
  const auto* words = bytes.as<uint32_t>();
  const int64_t rows = info.shape[0];
  for (int64_t r = 0; r < shape.row_groups; ++r)
    for (int64_t g = 0; g < shape.groups; ++g) {
      const int64_t bit = r * bits, word = bit / 32;
      const uint64_t next = word + 1 < rows ? words[(word + 1) * shape.groups + g] : 0, both = words[word * shape.groups + g] | next << 32;
      all[r * shape.groups + g] = static_cast<uint8_t>(both >> (bit % 32) & ((1u << bits) - 1));
    }
  return zeros;
}

struct Beside {
  const TensorInfo *scales = nullptr, *zeros = nullptr, *g_idx = nullptr, *global = nullptr;
};

// Tables of a weight whose codes are of `bits` bits: `middle` is what code the number 0 has without a zero of its own.
auto tables_of(const QuantisedFolder& folder, const Beside& beside, const GroupShape& shape, int64_t bits, float middle) {
  return [&folder, beside, shape, bits, middle](GroupTables& tables) {
    GroupedCodes& g = tables.groups;
    g.group_rows = shape.group_rows, g.group_cols = shape.group_cols, g.groups = shape.groups;
    g.zero = middle;
    keep_scales(folder, *beside.scales, tables);
    if (beside.zeros) {
      g.zero = beside.zeros->stored_as == "I8" ? middle - 128 : 0;
      keep_zeros(tables, whole_zeros(folder, *beside.zeros, shape, bits), shape.row_groups * shape.groups);
    }
    if (beside.global) {
      std::memcpy(&g.divisor, folder.bytes(*beside.global).data, sizeof(float));
      if (!(g.divisor > 0) || !std::isfinite(g.divisor))
        folder.bad(*beside.global, fmt::format("is {}, expected a number above 0", g.divisor));
    }
    if (!beside.g_idx) return;
    const TensorBytes bytes = folder.bytes(*beside.g_idx);
    const int64_t count = beside.g_idx->shape[0];
    std::vector<int32_t> list(static_cast<size_t>(count));
    for (int64_t c = 0; c < count; ++c)
      list[static_cast<size_t>(c)] = beside.g_idx->stored_as == "I64"
                                         ? static_cast<int32_t>(std::clamp<int64_t>(bytes.as<int64_t>()[c], -1, INT32_MAX))
                                         : bytes.as<int32_t>()[c];
    if (std::ranges::all_of(list, [](int32_t group) { return group == -1; })) return;  // never set: columns in their order
    keep_column_groups(folder, *beside.g_idx, tables, std::move(list));
  };
}

// Whole numbers in words of 32 bits.
void pack_quantised(const QuantisedFolder& folder, const CompressedScheme& scheme, const TensorInfo& info, const std::string& module,
                    std::vector<GroupedWeight>& all) {
  const int64_t bits = scheme.bits;
  if (scheme.is_float || (bits != 2 && bits != 3 && bits != 4 && bits != 8))
    folder.bad(info, fmt::format("is packed in {} bits, and whole numbers of 2, 3, 4 and 8 are read", bits));
  const TensorInfo* codes = folder.beside(info, info.name, {"I32"});
  const TensorInfo* written = folder.beside(info, module + ".weight_shape", {"I64", "I32"});
  const auto [out, in] = written_shape(folder, *written);
  const Dtype type = packed_codes(bits);
  const int64_t words = (in * bits + 31) / 32;
  folder.expect_shape(*codes, {out, words});
  if (in % block_of(type).elements != 0) folder.bad(info, fmt::format("has {} columns of {} bits, which are no whole bytes", in, bits));
  Beside beside;
  beside.scales = folder.beside(info, module + ".weight_scale", {"F32", "F16", "BF16"});
  const GroupShape shape = group_shape(folder, scheme, *beside.scales, out, in);
  GroupedWeight weight{module + ".weight", type, out, in, {codes->name, written->name, beside.scales->name}, info.file};
  if (!scheme.symmetric) {
    const bool packed = scheme.strategy == "group" || scheme.strategy == "channel";
    beside.zeros = folder.beside(info, module + ".weight_zero_point", {packed ? "I32" : "I8"});
    if (packed) folder.expect_shape(*beside.zeros, {(out * bits + 31) / 32, shape.groups});
  }
  beside.g_idx = folder.beside(info, module + ".weight_g_idx", {"I32", "I64"}, true);
  if (beside.g_idx) folder.expect_shape(*beside.g_idx, {in});
  for (const TensorInfo* one : {beside.zeros, beside.g_idx})
    if (one) weight.made_of.push_back(one->name);
  weight.stored_as = fmt::format("INT{}{}", bits, activations_text(scheme));
  const int64_t row_bytes = bytes_of(type, in);
  if (row_bytes == 4 * words) take_as_they_lie(folder, *codes, weight);
  else  // rows of whole words, whose last bits are nobody's
    weight.take = [&folder, codes, rows = out, row_bytes, words](uint8_t* to) {
      const TensorBytes from = folder.bytes(*codes);
      for (int64_t r = 0; r < rows; ++r) std::memcpy(to + r * row_bytes, from.data + r * 4 * words, static_cast<size_t>(row_bytes));
    };
  weight.group = tables_of(folder, beside, shape, bits, static_cast<float>(1 << (bits - 1)));
  all.push_back(std::move(weight));
}

// E2M1 in bytes.
void float_of_four_bits(const QuantisedFolder& folder, const CompressedScheme& scheme, const TensorInfo& info, const std::string& module,
                        std::vector<GroupedWeight>& all) {
  if (!scheme.is_float || scheme.bits != 4 || !scheme.symmetric)
    folder.bad(info, "is packed in bytes, and config_groups does not say that it is of symmetric floats of 4 bits");
  if (info.shape.size() != 2) folder.bad(info, fmt::format("has shape {}, expected [out, in / 2]", sizes_text(info.shape)));
  const int64_t out = info.shape[0], in = 2 * info.shape[1];
  if (out == 0 || in == 0) folder.bad(info, "is empty");
  Beside beside;
  beside.scales = folder.beside(info, module + ".weight_scale", {"F8_E4M3", "F8_E8M0", "U8", "F32", "F16", "BF16"});
  beside.global = folder.beside(info, module + ".weight_global_scale", {"F32"}, scheme.strategy != "tensor_group");
  if (beside.global) folder.expect_shape(*beside.global, {1});
  const GroupShape shape = group_shape(folder, scheme, *beside.scales, out, in);
  GroupedWeight weight{module + ".weight", Dtype::F4_GROUPS, out, in, {info.name, beside.scales->name}, info.file};
  if (beside.global) weight.made_of.push_back(beside.global->name);
  weight.stored_as = (beside.global ? "NVFP4" : "MXFP4") + activations_text(scheme);
  take_as_they_lie(folder, info, weight);
  weight.group = tables_of(folder, beside, shape, 4, 0);
  all.push_back(std::move(weight));
}

// An element a byte.
void naive_quantised(const QuantisedFolder& folder, const CompressedScheme& scheme, const TensorInfo& info, const std::string& module,
                     std::vector<GroupedWeight>& all) {
  const bool whole = info.stored_as == "I8";
  if (scheme.is_float == whole || (whole ? scheme.bits > 8 : scheme.bits != 8))
    folder.bad(info, fmt::format("is stored as {}, and config_groups says {} of {} bits", info.stored_as,
                                 scheme.is_float ? "floats" : "whole numbers", scheme.bits));
  if (!whole && !scheme.symmetric) folder.bad(info, "is of floats with zeros, which are not read");
  const int64_t out = info.shape[0], in = info.shape[1];
  if (out == 0 || in == 0) folder.bad(info, "is empty");
  Beside beside;
  beside.scales = folder.beside(info, module + ".weight_scale", {"F32", "F16", "BF16", "U8", "F8_E8M0"});
  const GroupShape shape = group_shape(folder, scheme, *beside.scales, out, in);
  GroupedWeight weight{info.name, whole ? Dtype::I8_GROUPS : Dtype::F8_GROUPS, out, in, {info.name, beside.scales->name}, info.file};
  weight.stored_as = (whole ? "INT8" : "FP8") + activations_text(scheme);
  if (!scheme.symmetric) {
    beside.zeros = folder.beside(info, module + ".weight_zero_point", {"I8"});
    if (beside.zeros->shape != beside.scales->shape)
      folder.bad(*beside.zeros,
                 fmt::format("has shape {}, expected {}", sizes_text(beside.zeros->shape), sizes_text(beside.scales->shape)));
    weight.made_of.push_back(beside.zeros->name);
  }
  take_as_they_lie(folder, info, weight);
  weight.group = tables_of(folder, beside, shape, 8, 0);
  all.push_back(std::move(weight));
}

// Scales of activations, and zeros of symmetric weights, which are 0.
void hide_what_is_not_used(const QuantisedFolder& folder, GroupedWeight& weight) {
  const std::string module = weight.name.substr(0, weight.name.size() - kPlain.size());
  for (const char* end : {".input_scale", ".input_zero_point", ".input_global_scale", ".output_scale", ".output_zero_point"})
    if (folder.source->find(module + end)) weight.made_of.push_back(module + end);
  const TensorInfo* zeros = folder.source->find(module + ".weight_zero_point");
  if (!zeros || std::ranges::find(weight.made_of, zeros->name) != weight.made_of.end()) return;
  const TensorBytes bytes = folder.bytes(*zeros);
  if (!std::all_of(bytes.data, bytes.data + bytes.size, [](uint8_t byte) { return byte == 0; }))
    folder.bad(*zeros, "is not 0, and config_groups says that the weights are symmetric");
  weight.made_of.push_back(zeros->name);
}

}  // namespace

std::vector<GroupedWeight> compressed_tensors_weights(const QuantisedFolder& folder) {
  const CompressedSchemes schemes(folder);
  std::vector<GroupedWeight> all;
  for (const TensorInfo& info : folder.source->tensors()) {
    if (info.name.ends_with(kPacked)) {
      const std::string module = info.name.substr(0, info.name.size() - kPacked.size());
      const CompressedScheme& scheme = schemes.of(info, module);
      if (info.stored_as == "U8") float_of_four_bits(folder, scheme, info, module, all);
      else pack_quantised(folder, scheme, info, module, all);
    } else if (info.name.ends_with(kPlain) && info.shape.size() == 2 && (info.stored_as == "I8" || info.stored_as == "F8_E4M3")) {
      const std::string module = info.name.substr(0, info.name.size() - kPlain.size());
      naive_quantised(folder, schemes.of(info, module), info, module, all);
    }
  }
  for (GroupedWeight& weight : all) hide_what_is_not_used(folder, weight);
  return all;
}

}  // namespace loraine
