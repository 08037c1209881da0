// AQLM. P.codes [out, in / 8, books] I16 or I8, whose bits are unsigned; P.codebooks [books, size, 1, 8]; P.scales [out, 1, 1, 1]. Facts:
// the aqlm package's utils.py (_dequantize_weight) and inference.py.
#include <fmt/format.h>

#include "loraine/io/quantised/formats.h"

namespace loraine {
namespace {

constexpr std::string_view kAqlmCodes = ".codes";

struct AqlmConfig {
  int64_t books, bits;
};

AqlmConfig read_aqlm_config(const QuantisedFolder& folder) {
  const int64_t in_group = folder.number({"in_group_size"}, 8), out_group = folder.number({"out_group_size"}, 1);
  const AqlmConfig c{folder.number({"num_codebooks"}, 1), folder.number({"nbits_per_codebook"}, 16)};
  if (in_group != 8 || out_group != 1)
    folder.refuse(fmt::format("has groups of {} x {}, and only 1 x 8 are read (out_group_size, in_group_size)", out_group, in_group),
                  "use a copy of the model in these groups");
  if (!(c.books == 1 && c.bits == 16) && !(c.books == 2 && c.bits == 8))
    folder.refuse(fmt::format("has {} code books of {} bits, and 1 of 16 and 2 of 8 are read", c.books, c.bits),
                  "use a copy of the model in one of these");
  return c;
}

// A table where it lies in the file, or in `memory`.
const void* table(const QuantisedFolder& folder, const TensorInfo& info, Buffer& memory) {
  TensorBytes bytes = folder.bytes(info);
  if (bytes.owned) memory = std::move(*bytes.owned);
  return bytes.data;
}

GroupedWeight aqlm_weight(const QuantisedFolder& folder, const AqlmConfig& c, const TensorInfo& info) {
  const std::string module = info.name.substr(0, info.name.size() - kAqlmCodes.size());
  const bool two = c.books == 2;
  const TensorInfo* codes = folder.beside(info, info.name, {two ? "I8" : "I16"});
  const TensorInfo* books = folder.beside(info, module + ".codebooks", {"F16", "BF16", "F32"});
  const TensorInfo* scales = folder.beside(info, module + ".scales", {"F16", "BF16", "F32"});
  if (codes->shape.size() != 3 || codes->shape[0] == 0 || codes->shape[1] == 0 || codes->shape[2] != c.books)
    folder.bad(info, fmt::format("has shape {}, expected [out, in / 8, {}]", sizes_text(codes->shape), c.books));
  const int64_t out = codes->shape[0], in = codes->shape[1] * kVector;
  folder.expect_shape(*books, {c.books, int64_t{1} << c.bits, 1, kVector});
  folder.expect_shape(*scales, {out, 1, 1, 1});

  GroupedWeight weight{module + ".weight", two ? Dtype::V2X8 : Dtype::V1X16, out, in, {codes->name, books->name, scales->name}, info.file};
  weight.stored_as = fmt::format("AQLM {}x{}", c.books, c.bits);
  take_as_they_lie(folder, *codes, weight);
  weight.group = [&folder, books, scales](GroupTables& tables) {
    tables.vectors.book_type = books->dtype;
    tables.vectors.scale_type = scales->dtype;
    tables.vectors.books = table(folder, *books, tables.books);
    tables.vectors.scales = table(folder, *scales, tables.scales);
  };
  return weight;
}

}  // namespace

std::vector<GroupedWeight> aqlm_weights(const QuantisedFolder& folder) {
  const AqlmConfig c = read_aqlm_config(folder);
  std::vector<GroupedWeight> all;
  for (const TensorInfo& info : folder.source->tensors())
    if (info.name.ends_with(kAqlmCodes)) all.push_back(aqlm_weight(folder, c, info));
  return all;
}

}  // namespace loraine
