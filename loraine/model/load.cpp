// Placing weights: Hugging Face names to sites, all mismatches gathered before failing.
#include "loraine/model/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {
namespace {

constexpr const char *kEmbedding = "model.embed_tokens.weight", *kHead = "lm_head.weight";

struct Placement {
  const TensorSource& source;
  LoadOptions options;
  std::string problems = {};
  int count = 0;

  void problem(const std::string& text) {
    if (++count <= 5) problems += "\n  " + text;
  }
  const TensorInfo* check(const std::string& name, std::vector<int64_t> shape, const char* meaning) {
    const TensorInfo* info = source.find(name);
    if (!info) {
      problem(name + (name == kHead ? ": missing, and tie_word_embeddings is not true" : ": missing"));
      return nullptr;
    }
    if (info->shape != shape) {
      problem(fmt::format("{}: file has {}, config implies {} ({})", name, Tensor(nullptr, Dtype::F32, info->shape).shape_text(),
                          Tensor(nullptr, Dtype::F32, shape).shape_text(), meaning));
      return nullptr;
    }
    if (info->dtype != Dtype::F32 && info->dtype != Dtype::F16 && info->dtype != Dtype::BF16) {
      problem(fmt::format("{}: stored as {}, expected F32, F16 or BF16", name, info->stored_as));
      return nullptr;
    }
    return info;
  }
  // Stays packed, whatever type products run in: where it lies, or copied when its rows lie in another order.
  Tensor place_packed(const TensorInfo& info, Buffer& owned) {
    Tensor mapped = source.map_packed(info);
    if (mapped.data) return mapped;
    owned = Buffer(static_cast<size_t>(bytes_of(*info.packed, info.shape[0] * info.shape[1])));
    Tensor t(owned.data(), *info.packed, info.shape);
    source.read(info, t);
    return t;
  }
  Tensor place(const std::string& name, int64_t rows, int64_t cols, const char* meaning, Buffer& owned) {
    const TensorInfo* info = check(name, {rows, cols}, meaning);
    if (!info) return {};
    if (info->packed) return place_packed(*info, owned);
    Tensor mapped = source.map(*info);
    Dtype dtype = options.bf16 ? Dtype::BF16 : info->dtype;
    if (mapped.data && dtype == info->dtype && reinterpret_cast<uintptr_t>(mapped.data) % size_of(dtype) == 0) return mapped;
    owned = Buffer(static_cast<size_t>(rows * cols) * size_of(dtype));
    Tensor t(owned.data(), dtype, {rows, cols});
    source.read(*info, t);
    if (mapped.data) release_pages(mapped.data, mapped.bytes());  // copied
    return t;
  }
  void vector(std::vector<float>& out, const std::string& name, int64_t size) {
    const TensorInfo* info = check(name, {size}, "a vector of that size");
    if (!info) return;
    out.resize(static_cast<size_t>(size));
    source.read(*info, Tensor(out.data(), Dtype::F32, {size}));
  }
  // A placed matrix becomes codes; what it was read from leaves memory.
  void to_codes(WeightPart& part) {
    if (!part.weight.data || is_packed(part.weight.dtype)) return;
    const Tensor before = part.weight;
    const bool mapped = part.owned.bytes() == 0;
    quantise_part(part, *options.quantisation, before.dtype);
    if (mapped) release_pages(before.data, before.bytes());
  }
  void part(Weight& weight, const std::string& name, int64_t out, int64_t in, bool bias, const char* meaning, bool in_block = true) {
    WeightPart part;
    part.name = name;
    part.weight = place(name + ".weight", out, in, meaning, part.owned);
    if (options.quantisation && in_block) to_codes(part);
    if (bias) {
      if (const TensorInfo* info = check(name + ".bias", {out}, "one bias per output")) {
        part.owned_bias = Buffer(static_cast<size_t>(out) * sizeof(float));
        source.read(*info, Tensor(part.owned_bias.data(), Dtype::F32, {out}));
        part.bias = static_cast<const float*>(part.owned_bias.data());
      }
    }
    weight.parts.push_back(std::move(part));
  }
};

void place_block(Placement& p, BlockWeights& block, const ModelConfig& c, int64_t layer) {
  std::string prefix = fmt::format("model.layers.{}.", layer), attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  p.vector(block.input_norm, prefix + "input_layernorm.weight", c.hidden_size);
  p.vector(block.post_norm, prefix + "post_attention_layernorm.weight", c.hidden_size);
  if (c.qk_norm) {
    p.vector(block.q_norm, attention + "q_norm.weight", c.head_dim);
    p.vector(block.k_norm, attention + "k_norm.weight", c.head_dim);
  }
  const char* heads = "num_attention_heads × head_dim, hidden_size";
  const char* kv_heads = "num_key_value_heads × head_dim, hidden_size";
  p.part(block.sites[kQkv], attention + "q_proj", c.q_size(), c.hidden_size, c.qkv_bias, heads);
  p.part(block.sites[kQkv], attention + "k_proj", c.kv_size(), c.hidden_size, c.qkv_bias, kv_heads);
  p.part(block.sites[kQkv], attention + "v_proj", c.kv_size(), c.hidden_size, c.qkv_bias, kv_heads);
  p.part(block.sites[kOutput], attention + "o_proj", c.hidden_size, c.q_size(), c.output_bias,
         "hidden_size, num_attention_heads × head_dim");
  p.part(block.sites[kGateUp], mlp + "gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, "intermediate_size, hidden_size");
  p.part(block.sites[kGateUp], mlp + "up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, "intermediate_size, hidden_size");
  p.part(block.sites[kDown], mlp + "down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias, "hidden_size, intermediate_size");
}

}  // namespace

void Model::release(const Tensor& weight, const Buffer& owned) const {
  if (!read_once || owned.bytes() > 0) return;
  if (config.tie_word_embeddings && embedding_memory.bytes() > 0) {  // the head is the embedding, which was read into memory
    const char *first = static_cast<const char*>(embedding_memory.data()), *data = static_cast<const char*>(weight.data);
    if (data >= first && data < first + embedding_memory.bytes()) return;
  }
  release_pages(weight.data, weight.bytes());
}

std::vector<const Weight*> Model::sites() const {
  std::vector<const Weight*> all;
  for (const BlockWeights& block : blocks)
    for (const Weight& weight : block.sites) all.push_back(&weight);
  all.push_back(&head);
  return all;
}

std::vector<Weight*> Model::sites_to_change() {
  std::vector<Weight*> all;
  for (BlockWeights& block : blocks)
    for (Weight& weight : block.sites) all.push_back(&weight);
  all.push_back(&head);
  return all;
}

int64_t Model::parameter_count() const {
  int64_t n = embedding.numel() + static_cast<int64_t>(final_norm.size());
  if (!config.tie_word_embeddings) n += head.in() * head.out();
  for (const BlockWeights& block : blocks) {
    n += static_cast<int64_t>(block.input_norm.size() + block.post_norm.size() + block.q_norm.size() + block.k_norm.size());
    for (const Weight& weight : block.sites)
      for (const WeightPart& part : weight.parts) n += part.weight.numel() + (part.bias ? part.weight.rows() : 0);
  }
  return n;
}

size_t Model::weight_bytes() const {
  size_t n = embedding.bytes();
  if (!config.tie_word_embeddings)
    for (const WeightPart& part : head.parts) n += part.weight.bytes();
  for (const BlockWeights& block : blocks)
    for (const Weight& weight : block.sites)
      for (const WeightPart& part : weight.parts) n += part.quant_state ? part.owned.bytes() : part.weight.bytes();
  return n;
}

namespace {

// Where both are in the file, they are tied when they are equal: transformers' rule, whatever config.json says. (torch's files always hold
// both, one storage under two names.)
bool has_own_head(const TensorSource& source) {
  const TensorInfo *embedding = source.find(kEmbedding), *head = source.find(kHead);
  if (!embedding || !head) return false;
  if (embedding->shape != head->shape) return true;
  if (embedding->dtype == head->dtype && !embedding->packed && !head->packed) {
    const Tensor a = source.map(*embedding), b = source.map(*head);
    if (a.data && b.data) {
      if (a.data == b.data) return false;
      constexpr size_t kPiece = 64u << 20;
      for (size_t at = 0; at < a.bytes(); at += kPiece) {
        const size_t bytes = std::min(kPiece, a.bytes() - at);
        const char *one = static_cast<const char*>(a.data) + at, *other = static_cast<const char*>(b.data) + at;
        if (std::memcmp(one, other, bytes) != 0) return true;
        release_pages(one, bytes);
        release_pages(other, bytes);
      }
      return false;
    }
  }
  const size_t bytes = Tensor(nullptr, Dtype::F32, embedding->shape).bytes();
  const Buffer one(bytes), other(bytes);
  source.read(*embedding, Tensor(one.data(), Dtype::F32, embedding->shape));
  source.read(*head, Tensor(other.data(), Dtype::F32, head->shape));
  return std::memcmp(one.data(), other.data(), bytes) != 0;
}

// A tied table may be stored under the head's name alone.
const char* source_name(const Model& model, const char* name) {
  const bool only_head = model.config.tie_word_embeddings && !model.source->find(kEmbedding) && model.source->find(kHead);
  return only_head && std::string_view(name) == kEmbedding ? kHead : name;
}

}  // namespace

std::string name_to_save(const Model& model, const std::string& stored) {
  if (!model.config.tie_word_embeddings || stored != kHead) return stored;
  return source_name(model, kEmbedding) == kHead ? kEmbedding : "";
}

std::string untied_text(const Model& model) {
  if (!model.untied_by_file) return "";
  return model.path +
         ": config.json says tie_word_embeddings, and the file has an lm_head.weight that differs from the embedding; the head "
         "in the file is used, as transformers does";
}

Model load_model(ModelFiles& files, const LoadOptions& options) {
  Model model;
  model.path = files.path;
  model.config = model_config(files.config, files.path + "/config.json");
  model.use_bf16 = options.bf16;
  model.source = files.tensors;
  const ModelConfig& c = model.config;
  Placement p{*model.source, options};
  if (c.tie_word_embeddings && has_own_head(*model.source)) {
    model.config.tie_word_embeddings = false;
    model.untied_by_file = true;
    files.config["tie_word_embeddings"] = false;  // what is saved says what it is
  }
  model.embedding = p.place(source_name(model, kEmbedding), c.vocab_size, c.hidden_size, "vocab_size, hidden_size", model.embedding_memory);
  p.vector(model.final_norm, "model.norm.weight", c.hidden_size);
  model.blocks.resize(static_cast<size_t>(c.num_hidden_layers));
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) place_block(p, model.blocks[static_cast<size_t>(layer)], c, layer);
  if (c.tie_word_embeddings) {
    WeightPart part;
    part.name = "lm_head";
    part.weight = model.embedding;
    model.head.parts.push_back(std::move(part));
  } else {
    p.part(model.head, "lm_head", c.vocab_size, c.hidden_size, false, "vocab_size, hidden_size", false);
  }
  if (p.count)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} tensors disagree with config.json:{}", files.path, p.count, p.problems),
                "is config.json from another model?");
  check_mapped_files();
  return model;
}

std::vector<int32_t> eos_token_ids(const ModelFiles& files, const ModelConfig& config) {
  std::vector<int32_t> ids;
  if (files.generation_config && files.generation_config->contains("eos_token_id")) {
    const Json& eos = (*files.generation_config)["eos_token_id"];
    for (const Json& id : eos.is_array() ? eos : Json::array({eos}))
      if (id.is_number_integer()) ids.push_back(id.get<int32_t>());
  }
  return ids.empty() ? config.eos_token_ids : ids;
}

}  // namespace loraine
