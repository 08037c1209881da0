// HQQ. The weight is cut into groups as a matrix: axis 1: [numel / group_size, group_size], axis 0: [group_size, numel / group_size]. P.W_q
// packs rows of that matrix that are far apart: with n codes in a word, row r lies in word row r % step, step = ceil(rows / n), the first
// in the highest bits: 4, 2 and 1 bits in bytes, 3 bits ten to a word of 32. P.scale and P.zero have one value a group; every other setting
// is a tensor of one number (P.nbits, P.axis, P.shape, …), or a value beside them in qmodel.pt. Facts: hqq 0.2.8's core/quantize.py,
// core/bitpack.py.
#include <fmt/format.h>

#include "loraine/core/parallel.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/quantised/formats.h"

namespace loraine {
namespace {

constexpr std::string_view kHqqCodes = ".W_q";
// What HQQLinear.state_dict() has beside codes, scale, zero and bias.
constexpr const char* kSettings[] = {"nbits",
                                     "group_size",
                                     "shape",
                                     "axis",
                                     "packing",
                                     "quant_scale",
                                     "quant_zero",
                                     "view_as_float",
                                     "optimize",
                                     "round_zero",
                                     "channel_wise",
                                     "unpack_view_dtype",
                                     "offload_meta",
                                     "compute_dtype",
                                     "encoded_state_dict",
                                     "stores_quant_config"};

// The whole numbers of a setting: in the values of qmodel.pt, or in a tensor; none where it is not there.
std::vector<int64_t> setting(const QuantisedFolder& folder, const TensorInfo& owner, const std::string& module, const std::string& name) {
  if (const auto modules = folder.config.find("qmodel"); modules != folder.config.end()) {
    const Json settings = modules->value(module, Json::object());
    const Json given = settings.is_object() ? settings.value(name, Json()) : Json();
    std::vector<int64_t> all;
    for (const Json& one : given.is_array() ? given : Json::array({given}))
      if (one.is_boolean()) all.push_back(one.get<bool>());
      else if (one.is_number_integer()) all.push_back(one.get<int64_t>());
    return all;
  }
  const TensorInfo* info = folder.beside(owner, module + "." + name, {"I64", "I32", "U8", "BOOL"}, true);
  if (!info) return {};
  const TensorBytes bytes = folder.bytes(*info);
  const size_t width = info->stored_as == "I64" ? 8 : info->stored_as == "I32" ? 4 : 1;
  std::vector<int64_t> all;
  for (size_t i = 0; i + width <= bytes.size; i += width)
    all.push_back(width == 8 ? bytes.as<int64_t>()[i / 8] : width == 4 ? bytes.as<int32_t>()[i / 4] : bytes.data[i]);
  return all;
}

struct HqqLayout {
  int64_t rows, cols, bits, axis, group_size;
  int64_t grouped_cols, grouped_rows;  // of the matrix of groups
  int64_t in_word, step;               // codes of a word, and how far apart they are
};

HqqLayout read_layout(const QuantisedFolder& folder, const TensorInfo& info, const std::string& module) {
  const auto one = [&](const char* name) {
    const std::vector<int64_t> values = setting(folder, info, module, name);
    if (values.size() != 1) folder.bad(info, fmt::format("{}.{} is not there as a whole number", module, name));
    return values[0];
  };
  const std::vector<int64_t> shape = setting(folder, info, module, "shape");
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[0] > kLargestSize || shape[1] > kLargestSize)
    folder.bad(info, fmt::format("{}.shape is not there as two sizes", module));
  HqqLayout l{shape[0], shape[1], one("nbits"), one("axis"), one("group_size"), 0, 0, 0, 0};
  if (l.bits < 1 || l.bits > 8 || l.bits == 7) folder.bad(info, fmt::format("has {} bits, and 1, 2, 3, 4, 5, 6 and 8 are read", l.bits));
  if (l.axis != 0 && l.axis != 1) folder.bad(info, fmt::format("is grouped along axis {}, expected 0 or 1", l.axis));
  const int64_t numel = l.rows * l.cols;
  if (l.group_size < 1 || l.group_size > numel || numel % l.group_size != 0)
    folder.bad(info, fmt::format("has the group_size {}, which does not divide the {} elements of its weight", l.group_size, numel));
  if (l.cols % block_of(codes_of_bits(l.bits)).elements != 0)
    folder.bad(info, fmt::format("has rows of {} elements, which are no whole bytes in {} bits", l.cols, l.bits));
  for (const char* name : {"quant_scale", "quant_zero"})
    if (const std::vector<int64_t> given = setting(folder, info, module, name); given.size() == 1 && given[0] != 0)
      folder.bad(info, fmt::format("says {}, and scales and zeros that are quantised themselves are not read", name));
  l.grouped_cols = l.axis == 1 ? l.group_size : numel / l.group_size;
  l.grouped_rows = numel / l.grouped_cols;
  l.in_word = l.bits == 3 ? 10 : l.bits > 4 ? 1 : 8 / l.bits;
  l.step = (l.grouped_rows + l.in_word - 1) / l.in_word;
  return l;
}

void unpack_hqq(uint8_t* to, const uint8_t* words, const HqqLayout& l) {
  const Dtype dtype = codes_of_bits(l.bits);
  const int64_t width = l.bits > 4 ? 8 : l.bits;
  parallel_for(l.rows, [&](int64_t row) {
    std::vector<uint8_t> codes(static_cast<size_t>(l.cols));
    for (int64_t c = 0; c < l.cols; ++c) {
      const int64_t grouped_row = (row * l.cols + c) / l.grouped_cols, grouped_col = (row * l.cols + c) % l.grouped_cols;
      const int64_t word = grouped_row % l.step * l.grouped_cols + grouped_col, shift = (l.in_word - 1 - grouped_row / l.step) * width;
      const uint32_t bits = l.bits == 3 ? reinterpret_cast<const uint32_t*>(words)[word] : words[word];
      codes[static_cast<size_t>(c)] = static_cast<uint8_t>(bits >> shift & ((1u << width) - 1));
    }
    pack_codes(to + bytes_of(dtype, row * l.cols), codes.data(), l.cols, width);
  });
}

GroupedWeight hqq_weight(const QuantisedFolder& folder, const TensorInfo& info) {
  const std::string module = info.name.substr(0, info.name.size() - kHqqCodes.size());
  const TensorInfo* codes = folder.beside(info, info.name, {"U8", "I32", "F16", "BF16", "F32"});  // floats: view_as_float
  const HqqLayout l = read_layout(folder, info, module);
  const TensorInfo* scale = folder.beside(info, module + ".scale", {"F16", "BF16", "F32"});
  const TensorInfo* zero = folder.beside(info, module + ".zero", {"F16", "BF16", "F32"});
  const int64_t numel = l.rows * l.cols, groups = numel / l.group_size;
  const auto packed = static_cast<size_t>(l.step * l.grouped_cols * (l.bits == 3 ? 4 : 1));
  if (const size_t bytes = Tensor(nullptr, codes->dtype, codes->shape).bytes(); bytes != packed)
    folder.bad(info, fmt::format("has {} bytes, expected {} for a weight of [{}, {}] in {} bits", bytes, packed, l.rows, l.cols, l.bits));
  for (const TensorInfo* table : {scale, zero})
    if (Tensor(nullptr, table->dtype, table->shape).numel() != groups)
      folder.bad(*table, fmt::format("has shape {}, expected one value for each of {} groups", sizes_text(table->shape), groups));
  if (zero->stored_as != scale->stored_as)
    folder.bad(*zero, fmt::format("is stored as {}, and its scales as {}", zero->stored_as, scale->stored_as));

  GroupedWeight weight{module + ".weight", codes_of_bits(l.bits), l.rows, l.cols, {codes->name, scale->name, zero->name}, info.file};
  weight.stored_as = fmt::format("HQQ in {} bits", l.bits);
  for (const char* name : kSettings)
    if (folder.source->find(module + "." + name)) weight.made_of.push_back(module + "." + name);
  weight.take = [&folder, codes, l](uint8_t* to) {
    const TensorBytes from = folder.bytes(*codes);
    unpack_hqq(to, from.data, l);
    release_if_mapped(from.data, from.size);
  };
  weight.group = [&folder, scale, zero, l, groups](GroupTables& tables) {
    GroupedCodes& g = tables.groups;
    g.flat = l.axis == 0 || l.cols % l.group_size != 0;
    g.period = l.axis == 0 ? groups : 0;
    g.group_cols = l.axis == 0 ? 1 : l.group_size;
    g.groups = g.flat ? groups : l.cols / l.group_size;
    keep_scales(folder, *scale, tables);
    TensorBytes zeros = folder.bytes(*zero);
    if (zeros.owned) tables.zeros = std::move(*zeros.owned);
    g.broken_zeros = zeros.data;
  };
  return weight;
}

}  // namespace

std::vector<GroupedWeight> hqq_weights(const QuantisedFolder& folder) {
  std::vector<GroupedWeight> all;
  for (const TensorInfo& info : folder.source->tensors())
    if (info.name.ends_with(kHqqCodes)) all.push_back(hqq_weight(folder, info));
  return all;
}

}  // namespace loraine
