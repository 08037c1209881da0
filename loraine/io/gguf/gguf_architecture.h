// How a GGUF of one architecture becomes a model in Hugging Face's words: its model_type, the names of its tensors, how their values lie,
// and the keys that only it has. The table is gguf_architectures.cpp; llama.cpp's side of it is gguf's constants and its converters.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/io/gguf/gguf.h"

namespace loraine {

struct GgufKeys;  // gguf_keys.h

// How a tensor at Hugging Face comes from what the file stores.
enum class GgufForm {
  as_stored,
  unshifted,           // a norm whose weights are not stored + 1, in an architecture whose others are
  thirds,              // the rows of q, of k and of v, which the file keeps in one matrix
  halves,              // as many rows of the first name as of the second
  first_half,          // the other way round: the upper rows of each matrix at Hugging Face
  second_half,         // and the lower ones
  by_head,             // rows q, k, v go to q, k, v of each head in turn
  channel,             // [channels, taps], with ones before or between, is [channels, 1, taps]
  one_row,             // [n] is [1, n]
  flat,                // all dimensions are one
  log_negative,        // the same, and ln(−x)
  log_negatives,       // ln(−x)
  log_negative_apart,  // and it is [1, 1, n, 1]
  transposed,          // each matrix of a stack
  even_columns,        // each matrix transposed; its columns are every second one at Hugging Face (of a list: its entries)
  odd_columns,         // and the others
  left_columns,        // each matrix transposed, the left half at Hugging Face
  right_columns,       // and the right one
  keys_of_heads,       // latent attention: [heads, rank, n] transposed, the first rows of each head at Hugging Face
  values_of_heads,     // and [heads, n, rank], the last ones
  value_heads,         // gated delta rule: rows by value head, in the file h of all key heads before h + 1; at Hugging Face of one key head
  keys_value_heads,    // the same behind the rows of q and k
  channel_value_heads,  // rows as those, and [channels, taps] is [channels, 1, taps]
  value_head_columns,   // columns likewise
  grouped_qkv,          // rows q, k, v; at Hugging Face, with those of z, by key head
  grouped_z,
  left_out  // Hugging Face has it elsewhere or not at all
};

struct GgufName {
  std::string_view gguf;          // without "blk.3."; with .weight or .bias when only that one is meant
  std::string_view hugging_face;  // without "model.layers.3."; {}: one tensor for each index of the first dimension; |: between several
  GgufForm form = GgufForm::as_stored;
};
using GgufNames = std::span<const GgufName>;

// How the files of an architecture differ from the usual.
struct GgufTraits {
  bool pairs = false;                // rows of q and k of each head are stored 0, d/2, 1, d/2 + 1, …
  bool norms_plus_one = false;       // weights of norms are stored + 1, but for the unshifted
  bool tiled_value_heads = false;    // value heads of the gated delta rule lie as GgufForm::value_heads says
  bool latent = false;               // keys and values of different length, through a low rank
  bool layers_differ = false;        // in their numbers of key-value heads
  std::string_view layer_norm = {};  // config.json's name of the norms' epsilon, where the file's key is layer_norm_epsilon
  GgufNames top = {};                // names outside layers that come before the common ones
  std::string_view layers = "model.layers";
  std::string_view rms_norm = "rms_norm_eps";  // config.json's name of layer_norm_rms_epsilon
};

struct GgufArchitecture {
  std::string_view name;        // general.architecture
  std::string_view model_type;  // of config.json; `keys` may refine it and the class
  std::string_view model_class;
  std::vector<GgufNames> block;       // names of a layer's tensors that come before the common ones
  void (*keys)(GgufKeys&) = nullptr;  // adds to config.json what the common keys do not say
  GgufTraits traits = {};
};

// Of general.architecture; bad_data with the list when it is not read.
const GgufArchitecture& gguf_architecture(const GgufFile& file);
std::span<const GgufArchitecture> gguf_architectures();

}  // namespace loraine
