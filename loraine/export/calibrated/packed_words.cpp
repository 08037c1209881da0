// See packed_words.h.
#include "loraine/export/calibrated/packed_words.h"

#include "loraine/core/parallel.h"

namespace loraine {
namespace {

constexpr int kAwqOrder[] = {0, 2, 4, 6, 1, 3, 5, 7};  // of columns in a word, the lowest bits first

// What format "gptq" takes off words of zeros. Of 3 bits gptqmodel has the constants of the first and the last of three words the other way
// round than the fields lie; it puts back what it took off.
uint32_t less_one(int64_t bits, int64_t word) {
  constexpr uint32_t kOfThree[] = {0x24924924u, 0x92492492u, 0x49249249u};
  return bits == 2 ? 0x55555555u : bits == 4 ? 0x11111111u : bits == 8 ? 0x01010101u : kOfThree[word % 3];
}

// Puts a code of `bits` bits at place `index` of a stream whose words lie `step` apart.
void put_code(uint32_t* words, int64_t step, int64_t index, int64_t bits, uint32_t code) {
  const int64_t bit = index * bits, word = bit / 32, at = bit % 32;
  words[word * step] |= code << at;
  if (at + bits > 32) words[(word + 1) * step] |= code >> (32 - at);
}

// scales [out, groups] as F16 [groups, out]
std::vector<f16> turned_scales(const GroupCodes& codes, int64_t out, int64_t groups) {
  std::vector<f16> scales(codes.scales.size());
  for (int64_t o = 0; o < out; ++o)
    for (int64_t g = 0; g < groups; ++g)
      scales[static_cast<size_t>(g * out + o)] = f32_to_f16(codes.scales[static_cast<size_t>(o * groups + g)]);
  return scales;
}

}  // namespace

void add_gptq(PackedSpool& spool, const std::string& module, const GroupCodes& codes, int64_t out, int64_t in, const GroupScheme& scheme) {
  const int64_t bits = scheme.bits, groups = scheme.groups(in), rows = in * bits / 32, words = out * bits / 32;
  std::vector<uint32_t> qweight(static_cast<size_t>(rows * out)), qzeros(static_cast<size_t>(groups * words));
  parallel_for(
      out,
      [&](int64_t o) {
        for (int64_t i = 0; i < in; ++i) put_code(qweight.data() + o, out, i, bits, codes.codes[static_cast<size_t>(o * in + i)]);
      },
      16);
  for (int64_t g = 0; g < groups; ++g) {
    uint32_t* row = qzeros.data() + g * words;
    for (int64_t o = 0; o < out; ++o) put_code(row, 1, o, bits, codes.zeros[static_cast<size_t>(o * groups + g)]);
    for (int64_t w = 0; w < words; ++w) row[w] -= less_one(bits, w);
  }
  std::vector<int32_t> g_idx(static_cast<size_t>(in));
  for (int64_t i = 0; i < in; ++i) g_idx[static_cast<size_t>(i)] = static_cast<int32_t>(i / scheme.group_size);
  spool.add({module + ".g_idx", Dtype::I32, {in}}, g_idx.data());
  spool.add({module + ".qweight", Dtype::I32, {rows, out}}, qweight.data());
  spool.add({module + ".qzeros", Dtype::I32, {groups, words}}, qzeros.data());
  spool.add({module + ".scales", Dtype::F16, {groups, out}}, turned_scales(codes, out, groups).data());
}

void add_awq(PackedSpool& spool, const std::string& module, const GroupCodes& codes, int64_t out, int64_t in, const GroupScheme& scheme) {
  const int64_t groups = scheme.groups(in), words = out / 8;
  std::vector<uint32_t> qweight(static_cast<size_t>(in * words)), qzeros(static_cast<size_t>(groups * words));
  const auto word = [&](const uint8_t* column, int64_t step, int64_t w) {
    uint32_t made = 0;
    for (int n = 0; n < 8; ++n) made |= static_cast<uint32_t>(column[(8 * w + kAwqOrder[n]) * step]) << (4 * n);
    return made;
  };
  parallel_for(
      in,
      [&](int64_t i) {
        for (int64_t w = 0; w < words; ++w) qweight[static_cast<size_t>(i * words + w)] = word(codes.codes.data() + i, in, w);
      },
      16);
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t w = 0; w < words; ++w) qzeros[static_cast<size_t>(g * words + w)] = word(codes.zeros.data() + g, groups, w);
  spool.add({module + ".qweight", Dtype::I32, {in, words}}, qweight.data());
  spool.add({module + ".qzeros", Dtype::I32, {groups, words}}, qzeros.data());
  spool.add({module + ".scales", Dtype::F16, {groups, out}}, turned_scales(codes, out, groups).data());
}

}  // namespace loraine
