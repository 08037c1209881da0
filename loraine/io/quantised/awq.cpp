// AWQ in its "gemm" order. P.qweight I32 [in, out / 8], P.qzeros I32 [groups, out / 8], P.scales [groups, out]: half n of a word is that of
// output kOrder[n] of eight; zeros are stored as they are. Facts: autoawq's modules/linear/gemm.py and utils/packing_utils.py.
#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/parallel.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/quantised/formats.h"

namespace loraine {
namespace {

constexpr std::string_view kAwqCodes = ".qweight";
constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

int64_t awq_group_size(const QuantisedFolder& folder) {
  const std::string version = folder.text({"version", "format"}, "gemm"), backend = folder.text({"backend"}, "auto");
  if (version != "gemm" || backend == "llm-awq")
    folder.refuse(fmt::format("has the version {}, and only gemm is read", in_quotes(backend == "llm-awq" ? backend : version)),
                  "use a copy of the model in that version");
  if (const int64_t bits = folder.number({"bits", "w_bit"}, 4); bits != 4)
    folder.refuse(fmt::format("has {} bits, and AWQ has 4", bits), "use a copy of the model in 4 bits");
  if (folder.config.value("zero_point", Json(true)) != true)
    folder.refuse("says zero_point: false, and only weights with zeros are read", "use a copy of the model with zero_point: true");
  for (const TensorInfo& info : folder.source->tensors())
    if (info.name.ends_with(".act.scales") || info.name.ends_with(".gelu_impl.scales"))
      folder.bad(info, "scales of an activation are not applied here");
  const int64_t size = folder.number({"group_size", "q_group_size"}, 128);
  if (size < -1 || size == 0)
    folder.refuse(fmt::format("has the group_size {}, expected -1 or a number of columns", size), "is the file complete?");
  return size;
}

GroupedWeight awq_weight(const QuantisedFolder& folder, int64_t group_size, const TensorInfo& info) {
  const std::string module = info.name.substr(0, info.name.size() - kAwqCodes.size());
  const TensorInfo* codes = folder.beside(info, info.name, {"I32"});
  const TensorInfo* scales = folder.beside(info, module + ".scales", {"F16", "BF16", "F32"});
  const TensorInfo* qzeros = folder.beside(info, module + ".qzeros", {"I32"});
  if (codes->shape.size() != 2 || codes->shape[0] == 0 || codes->shape[1] == 0 || codes->shape[0] % 2 != 0)
    folder.bad(info, fmt::format("has shape {}, expected [in, out / 8] with an even in", sizes_text(codes->shape)));
  const int64_t in = codes->shape[0], words = codes->shape[1], out = 8 * words, size = group_size == -1 ? in : group_size;
  if (in % size != 0) folder.bad(info, fmt::format("has {} columns, which are no whole groups of {}", in, size));
  const int64_t groups = in / size;
  folder.expect_shape(*scales, {groups, out});
  folder.expect_shape(*qzeros, {groups, words});

  GroupedWeight weight{module + ".weight", Dtype::U4_GROUPS, out, in, {codes->name, scales->name, qzeros->name}, info.file};
  weight.stored_as = "AWQ in 4 bits";
  weight.take = [&folder, codes, in, words](uint8_t* to) {
    const TensorBytes from = folder.bytes(*codes);
    const auto* all = from.as<uint32_t>();
    constexpr int64_t kTile = 8;  // words of a row: a cache line of the file for each two rows
    const auto turn = [&](int64_t tile) {
      const int64_t last = std::min(words, (tile + 1) * kTile);
      for (int64_t k = 0; k < in; k += 2)
        for (int64_t w = tile * kTile; w < last; ++w) {
          const uint32_t low = all[k * words + w], high = all[(k + 1) * words + w];
          for (int n = 0; n < 8; ++n)
            to[((8 * w + kOrder[n]) * in + k) / 2] = static_cast<uint8_t>((low >> (4 * n) & 15) | (high >> (4 * n) & 15) << 4);
        }
    };
    parallel_for((words + kTile - 1) / kTile, turn, (1 << 14) / (in * kTile) + 1);
    release_if_mapped(from.data, from.size);
  };
  weight.group = [&folder, scales, qzeros, groups, words, out, size](GroupTables& tables) {
    GroupedCodes& g = tables.groups;
    g.groups = groups;
    g.group_cols = size;
    g.scale_type = folder.scale_type(*scales);
    const TensorBytes values = folder.bytes(*scales), packed = folder.bytes(*qzeros);
    const size_t width = g.scale_type == ScaleType::f32 ? 4 : 2;
    tables.scales = Buffer(values.size);
    Buffer zeros(static_cast<size_t>(groups * out));
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t o = 0; o < out; ++o)
        std::copy_n(values.data + static_cast<size_t>(group * out + o) * width, width,
                    static_cast<uint8_t*>(tables.scales.data()) + static_cast<size_t>(o * groups + group) * width);
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t w = 0; w < words; ++w)
        for (int n = 0; n < 8; ++n)
          static_cast<uint8_t*>(zeros.data())[(8 * w + kOrder[n]) * groups + group] =
              static_cast<uint8_t>(packed.as<uint32_t>()[group * words + w] >> (4 * n) & 15);
    g.scales = tables.scales.data();
    keep_zeros(tables, std::move(zeros), groups * out);
  };
  return weight;
}

}  // namespace

std::vector<GroupedWeight> awq_weights(const QuantisedFolder& folder) {
  const int64_t group_size = awq_group_size(folder);
  std::vector<GroupedWeight> all;
  for (const TensorInfo& info : folder.source->tensors())
    if (info.name.ends_with(kAwqCodes)) all.push_back(awq_weight(folder, group_size, info));
  return all;
}

}  // namespace loraine
