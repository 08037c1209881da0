// GPTQ. P.qweight I32 [in · bits / 32, out]: a stream of codes down each column, the lowest bits first; P.qzeros I32 [groups, out · bits /
// 32]; P.scales [groups, out]; P.g_idx I32 [in]: the group of each column of the weight. Facts: gptqmodel's nn_modules/qlinear and
// utils/model.py. Format "gptq" stores zeros less one, with the borrow going through the whole word; "gptq_v2" stores them as they are.
#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/parallel.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/quantised/formats.h"

namespace loraine {
namespace {

constexpr std::string_view kQweight = ".qweight";

struct GptqConfig {
  int64_t bits, group_size;  // −1: all columns
  bool own_sizes;            // "dynamic": modules may have others
  bool less_one;             // format "gptq"
  bool symmetric;
};

GptqConfig read_gptq_config(const QuantisedFolder& folder) {
  const std::string format = folder.text({"checkpoint_format", "format"}, "gptq");
  if (format != "gptq" && format != "gptq_v2")
    folder.refuse("has the format " + in_quotes(format) + ", and only gptq and gptq_v2 are read",
                  "use a copy of the model in one of these");
  if (folder.config.value("is_marlin_format", Json(false)) == true)
    folder.refuse("says is_marlin_format, and only gptq and gptq_v2 are read", "use a copy of the model in one of these");
  if (const std::string type = folder.text({"pack_dtype"}, "int32"); type != "int32")
    folder.refuse("has the pack_dtype " + in_quotes(type) + ", and only int32 is read", "use a copy of the model that was packed so");
  GptqConfig c{folder.number({"bits"}), folder.number({"group_size"}, -1), folder.config.value("dynamic", Json()).is_object(),
               format == "gptq", folder.config.value("sym", Json(true)) != false};
  if (c.bits != 2 && c.bits != 3 && c.bits != 4 && c.bits != 8)
    folder.refuse(fmt::format("has {} bits, and 2, 3, 4 and 8 are read", c.bits), "use a copy of the model in one of these");
  if (c.group_size < -1 || c.group_size == 0)
    folder.refuse(fmt::format("has the group_size {}, expected -1 or a number of columns", c.group_size), "is the file complete?");
  return c;
}

Dtype gptq_codes(int64_t bits) {
  return bits == 2 ? Dtype::U2_GROUPS : bits == 3 ? Dtype::U3_GROUPS : bits == 4 ? Dtype::U4_GROUPS : Dtype::U8_GROUPS;
}

// to [columns, rows] = from [rows, columns] transposed, elements of type T.
template <class T>
void transpose(T* to, const T* from, int64_t rows, int64_t columns) {
  constexpr int64_t kTile = 16;
  parallel_for((columns + kTile - 1) / kTile,
               [&](int64_t tile) {
                 const int64_t last = std::min(columns, (tile + 1) * kTile);
                 for (int64_t r = 0; r < rows; ++r)
                   for (int64_t c = tile * kTile; c < last; ++c) to[c * rows + r] = from[r * columns + c];
               },
               (1 << 14) / (rows * kTile) + 1);
}

// How format "gptq" took one off the zeros: of words (gptqmodel, and what it reads), of each by itself (AutoGPTQ), or not ("gptq_v2"). The
// two differ for 3 bits, whose fields cross words, and of which gptqmodel has the constants of the first and the last of three words the
// other way round.
enum class LessOne { no, in_words, each };

uint32_t taken_off(int64_t bits, int64_t word) {
  constexpr uint32_t kOfThree[] = {0x24924924u, 0x92492492u, 0x49249249u};
  return bits == 2 ? 0x55555555u : bits == 4 ? 0x11111111u : bits == 8 ? 0x01010101u : kOfThree[word % 3];
}

// zeros [out, groups]
void read_zeros(uint8_t* zeros, const uint32_t* words, int64_t groups, int64_t out, int64_t bits, LessOne less_one) {
  const int64_t count = out * bits / 32;
  std::vector<uint32_t> row(static_cast<size_t>(count) + 1);
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t w = 0; w < count; ++w)
      row[static_cast<size_t>(w)] = words[g * count + w] + (less_one == LessOne::in_words ? taken_off(bits, w) : 0);
    for (int64_t o = 0; o < out; ++o) {
      const int64_t bit = o * bits;
      const uint64_t both = row[static_cast<size_t>(bit / 32)] | static_cast<uint64_t>(row[static_cast<size_t>(bit / 32 + 1)]) << 32;
      zeros[o * groups + g] = static_cast<uint8_t>(((both >> (bit % 32)) + (less_one == LessOne::each)) & ((1u << bits) - 1));
    }
  }
}

GroupedWeight gptq_weight(const QuantisedFolder& folder, const GptqConfig& c, const TensorInfo& qweight) {
  const std::string module = qweight.name.substr(0, qweight.name.size() - kQweight.size());
  const TensorInfo* codes = folder.beside(qweight, qweight.name, {"I32"});
  const TensorInfo* scales = folder.beside(qweight, module + ".scales", {"F16", "BF16", "F32"});
  const TensorInfo* qzeros = folder.beside(qweight, module + ".qzeros", {"I32"});
  const TensorInfo* g_idx = folder.beside(qweight, module + ".g_idx", {"I32"}, true);
  if (codes->shape.size() != 2 || scales->shape.size() != 2 || (g_idx && g_idx->shape.size() != 1))
    folder.bad(qweight,
               fmt::format("has shape {}, with scales {}, expected two matrices", sizes_text(codes->shape), sizes_text(scales->shape)));
  const int64_t words = codes->shape[0], out = codes->shape[1], groups = scales->shape[0];
  if (words == 0 || out == 0 || groups == 0) folder.bad(qweight, "is empty");
  const int64_t in = g_idx ? g_idx->shape[0] : words * 32 / c.bits;
  const int64_t bits = c.own_sizes && in > 0 ? words * 32 / in : c.bits;
  if (in == 0 || words * 32 != in * bits || (bits != 2 && bits != 3 && bits != 4 && bits != 8) || out % 32 * bits % 32 != 0)
    folder.bad(qweight, fmt::format("has shape {}, which is no matrix of {} bits{}", sizes_text(codes->shape), bits,
                                    g_idx ? fmt::format(" with {} columns", in) : ""));
  const int64_t group_size = c.group_size == -1 ? in : c.group_size;
  if (!c.own_sizes) folder.expect_shape(*scales, {(in + group_size - 1) / group_size, out});
  folder.expect_shape(*scales, {groups, out});
  folder.expect_shape(*qzeros, {groups, out * bits / 32});
  if (c.own_sizes && !g_idx && groups > 1 && (in + group_size - 1) / group_size != groups)
    folder.bad(*scales, fmt::format("has {} groups, and no g_idx says of which columns", groups));

  GroupedWeight weight{module + ".weight", gptq_codes(bits), out, in, {codes->name, scales->name, qzeros->name}, qweight.file};
  weight.stored_as = fmt::format("GPTQ in {} bits", bits);
  if (g_idx) weight.made_of.push_back(g_idx->name);
  weight.take = [&folder, codes, words, out](uint8_t* to) {
    const TensorBytes from = folder.bytes(*codes);
    transpose(reinterpret_cast<uint32_t*>(to), from.as<uint32_t>(), words, out);
    release_if_mapped(from.data, from.size);
  };
  weight.group = [&folder, c, scales, qzeros, g_idx, groups, out, in, bits, group_size](GroupTables& tables) {
    GroupedCodes& g = tables.groups;
    g.groups = groups;
    g.group_cols = groups == 1 ? in : group_size;
    g.scale_type = folder.scale_type(*scales);
    const TensorBytes values = folder.bytes(*scales);
    tables.scales = Buffer(values.size);
    if (g.scale_type == ScaleType::f32) transpose(static_cast<uint32_t*>(tables.scales.data()), values.as<uint32_t>(), groups, out);
    else transpose(static_cast<uint16_t*>(tables.scales.data()), values.as<uint16_t>(), groups, out);
    g.scales = tables.scales.data();
    const TensorBytes packed = folder.bytes(*qzeros);
    Buffer zeros(static_cast<size_t>(groups * out));
    auto* all = static_cast<uint8_t*>(zeros.data());
    read_zeros(all, packed.as<uint32_t>(), groups, out, bits, c.less_one ? LessOne::in_words : LessOne::no);
    const auto in_the_middle = [&](uint8_t zero) { return zero == 1 << (bits - 1); };
    if (bits == 3 && c.less_one && c.symmetric && !std::all_of(all, all + groups * out, in_the_middle))
      read_zeros(all, packed.as<uint32_t>(), groups, out, bits, LessOne::each);
    keep_zeros(tables, std::move(zeros), groups * out);
    if (!g_idx) return;
    const TensorBytes list = folder.bytes(*g_idx);
    keep_column_groups(folder, *g_idx, tables, std::vector<int32_t>(list.as<int32_t>(), list.as<int32_t>() + in));
  };
  return weight;
}

}  // namespace

std::vector<GroupedWeight> gptq_weights(const QuantisedFolder& folder) {
  const GptqConfig c = read_gptq_config(folder);
  std::vector<GroupedWeight> all;
  for (const TensorInfo& info : folder.source->tensors())
    if (info.name.ends_with(kQweight)) all.push_back(gptq_weight(folder, c, info));
  return all;
}

}  // namespace loraine
