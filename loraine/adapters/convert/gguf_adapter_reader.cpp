// llama.cpp's adapters: A and B under the base tensor's name, scale alpha / r with the file's one alpha; q and k of some architectures with
// the rows of each head in pairs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "loraine/adapters/convert/other_formats.h"
#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/gguf/gguf_names.h"
#include "loraine/io/tensors/turned_source.h"

namespace loraine {
namespace {

[[noreturn]] void bad_gguf_adapter(const GgufFile& file, const std::string& what) {
  throw Error(ErrorKind::bad_data, file.path + ": " + what);
}

std::vector<float> gguf_values(const GgufFile& file, const GgufTensor& tensor) {
  const GgmlType* type = ggml_type(tensor.type);
  if (!type || !type->weight) bad_gguf_adapter(file, fmt::format("{} is stored in a type that is not read", tensor.name));
  if (tensor.shape.size() != 2) bad_gguf_adapter(file, tensor.name + " is no matrix (adapters of experts are not converted)");
  std::vector<float> out(static_cast<size_t>(tensor.shape[0] * tensor.shape[1]));
  const unsigned char* bytes = file.file.data() + tensor.offset;
  if (is_packed(*type->weight)) unpack(out.data(), bytes, *type->weight, static_cast<int64_t>(out.size()));
  else convert(out.data(), Dtype::F32, bytes, *type->weight, static_cast<int64_t>(out.size()));
  if (!std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }))
    bad_gguf_adapter(file, tensor.name + " holds values that are not finite numbers");
  return out;
}

// Rows of B as the model has them: row i lies at order[i] of the file.
void unpair_rows(LowRankModule& m, int64_t heads) {
  std::vector<int64_t> order;
  order_pairs(order, 0, m.out, heads);
  std::vector<float> b(m.b.size());
  for (int64_t row = 0; row < m.out; ++row) std::copy_n(m.b.data() + order[static_cast<size_t>(row)] * m.r, m.r, b.data() + row * m.r);
  m.b = std::move(b);
}

LowRankModule gguf_module(const GgufFile& file, const std::string& name, const GgufTensor& a, const GgufTensor& b, double alpha,
                          const std::optional<GgufHeads>& heads) {
  const std::optional<GgufTarget> target = gguf_target(gguf_architecture(file), name);
  if (!target || target->form != GgufForm::as_stored || target->name.find_first_of("{|") != std::string::npos ||
      !target->name.ends_with(".weight"))
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: {} has no single matrix of Hugging Face's behind it in this architecture", file.path, name),
                "convert an adapter of plain linear layers");
  LowRankModule m;
  m.path = target->name.substr(0, target->name.size() - 7);
  m.embedding = name == "token_embd.weight";
  m.a = gguf_values(file, a), m.b = gguf_values(file, b);
  m.out = b.shape[0], m.r = b.shape[1];
  m.in = m.embedding ? a.shape[0] : a.shape[1];  // [V, r] of the embedding
  if ((m.embedding ? a.shape[1] : a.shape[0]) != m.r || m.r == 0) bad_gguf_adapter(file, name + ": lora_a and lora_b are not of one rank");
  if (m.embedding) {
    std::vector<float> rows(m.a.size());
    turn(Tensor(rows.data(), Dtype::F32, {m.r, m.in}), Tensor(m.a.data(), Dtype::F32, {m.in, m.r}));
    m.a = std::move(rows);
  }
  m.scale = alpha == 0 ? 1 : alpha / static_cast<double>(m.r);
  if (!target->pairs) return m;
  if (!heads)
    throw Error(ErrorKind::usage,
                fmt::format("{}: {} has the rows of each head in pairs, and how many heads there are only the base says", file.path, name),
                "give the base: --model_name_or_path DIR");
  const int64_t count = name.ends_with("attn_k.weight") ? heads->kv_heads : heads->heads;
  if (count < 1 || m.out % (2 * count) != 0)
    bad_gguf_adapter(file, fmt::format("{} has {} rows, and the base {} heads there", name, m.out, count));
  unpair_rows(m, count);
  return m;
}

}  // namespace

LowRankSet read_gguf_adapter(const std::string& path, const std::optional<GgufHeads>& heads) {
  const GgufFile file(path);
  if (file.text("general.type").value_or("") != "adapter" || file.text("adapter.type").value_or("") != "lora")
    bad_gguf_adapter(file, "is no LoRA adapter (general.type, adapter.type)");
  const double alpha = file.number("adapter.lora.alpha").value_or(0);
  std::map<std::string, const GgufTensor*> by_name;
  for (const GgufTensor& tensor : file.tensors) by_name[tensor.name] = &tensor;
  LowRankSet set;
  set.base = file.text("general.base_model.0.name").value_or("");
  for (const auto& [name, tensor] : by_name) {
    const bool is_a = name.ends_with(".lora_a"), is_b = name.ends_with(".lora_b");
    if (!is_a && !is_b)
      throw Error(ErrorKind::unsupported, fmt::format("{}: {} is neither lora_a nor lora_b", path, name),
                  "adapters of A and B alone are converted");
    const std::string stem = name.substr(0, name.size() - 7);
    const auto other = by_name.find(stem + (is_a ? ".lora_b" : ".lora_a"));
    if (other == by_name.end()) bad_gguf_adapter(file, name + " has no partner");
    if (is_a) set.modules.push_back(gguf_module(file, stem, *tensor, *other->second, alpha, heads));
  }
  if (set.modules.empty()) bad_gguf_adapter(file, "holds no lora_a");
  std::ranges::sort(set.modules, before_by_number, &LowRankModule::path);
  return set;
}

}  // namespace loraine
