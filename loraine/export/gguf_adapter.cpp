// llama.cpp adds alpha / r · B A x, with one alpha and r of each B: what differs between matrices goes into B.
#include "loraine/export/gguf_adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "loraine/adapters/lora.h"
#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/export/merge.h"
#include "loraine/io/gguf/gguf_output_keys.h"
#include "loraine/io/gguf/gguf_quantise.h"

namespace loraine {
namespace {

struct AdapterTensor {
  GgufEntry entry;
  Dtype type = Dtype::F32;
  std::vector<float> values;
};

[[noreturn]] void not_an_adapter(const std::string& what) {
  throw Error(ErrorKind::unsupported, "the adapter " + what + ", which llama.cpp cannot add to a model",
              "export base and adapter together: export_format: gguf");
}

void check_kind(const Model& model, const AdapterSet& adapter) {
  if (adapter.dense || !adapter.token_rows.empty()) not_an_adapter("has tensors that are trained whole (modules_to_save, biases, tokens)");
  if (!adapter.invocation.empty()) not_an_adapter("is on from its invocation tokens on alone (alora_invocation_tokens)");
  if (adapter.embedding) not_an_adapter("has LoRA on the embedding");
  if (std::any_of(adapter.experts.begin(), adapter.experts.end(), [](const auto& each) { return each != nullptr; }))
    not_an_adapter("has LoRA on experts");
  if (adapter.head() && model.config.tie_word_embeddings) not_an_adapter("has LoRA on a head that is the embedding");
  for (const auto& site : adapter.sites)
    if (site && !site->as_lora()) not_an_adapter("is not of A and B alone (DoRA, lora_bias)");
}

// The tensor's own type, or F16 where its rows are no multiple of the block.
AdapterTensor adapter_tensor(std::string name, std::vector<int64_t> shape, std::vector<float> values, const GgufRecipe& recipe) {
  AdapterTensor tensor{{std::move(name), 0, std::move(shape)}, recipe.matrices, std::move(values)};
  if (tensor.entry.shape.back() % block_of(tensor.type).elements != 0) tensor.type = Dtype::F16;
  for (uint32_t number = 0; number < 64; ++number)
    if (const GgmlType* type = ggml_type(number); type && type->weight == tensor.type) tensor.entry.type = number;
  return tensor;
}

std::vector<float> copied(const Tensor& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.numel()));
  for (int64_t row = 0; row < matrix.rows(); ++row)
    convert(values.data() + row * matrix.cols(), Dtype::F32, matrix.row_range(row, 1).data, matrix.dtype, matrix.cols());
  return values;
}

double relative_error(const AdapterTensor& tensor, const GgufFile& file) {
  const auto at = std::find_if(file.tensors.begin(), file.tensors.end(), [&](const auto& each) { return each.name == tensor.entry.name; });
  if (at == file.tensors.end() || at->shape != tensor.entry.shape || at->type != tensor.entry.type)
    throw Error(ErrorKind::internal, file.path + ": read back, " + tensor.entry.name + " is missing or another", "please report it");
  std::vector<float> read(tensor.values.size());
  const unsigned char* bytes = file.file.data() + at->offset;
  if (is_packed(tensor.type)) unpack(read.data(), bytes, tensor.type, static_cast<int64_t>(read.size()));
  else convert(read.data(), Dtype::F32, bytes, tensor.type, static_cast<int64_t>(read.size()));
  double apart = 0, all = 0;
  for (size_t i = 0; i < read.size(); ++i) {
    const double a = static_cast<double>(read[i]), b = static_cast<double>(tensor.values[i]);
    apart += (a - b) * (a - b), all += b * b;
  }
  return apart == 0 ? 0 : std::sqrt(apart / all);
}

}  // namespace

GgufAdapterReport write_gguf_adapter(const Model& model, const ModelFiles& files, const AdapterSet& adapter, const GgufRecipe& recipe,
                                     const std::string& name, const std::string& base_model, const std::string& path) {
  check_kind(model, adapter);
  GgufModelKeys keys = gguf_model_keys(files.config);
  const std::unique_ptr<Merge> base = plan_merge(model, nullptr);
  std::vector<NamedShape> shapes;
  for (const WeightToWrite& weight : base->weights) shapes.push_back({weight.entry.name, weight.entry.shape});
  const std::vector<GgufOutput> outputs = gguf_outputs(*keys.architecture, shapes, keys.heads, keys.layers);
  std::map<std::string, const GgufOutput*> by_source;
  for (const GgufOutput& output : outputs)
    for (const std::string& source : output.sources) by_source[source] = &output;
  const std::vector<const Weight*> sites = model.sites();
  std::vector<AdapterTensor> tensors;
  std::optional<double> alpha;
  GgufAdapterReport report;
  for (size_t site = 0; site < adapter.sites.size(); ++site) {
    const Lora* lora = adapter.sites[site] ? adapter.sites[site]->as_lora() : nullptr;
    for (size_t i = 0; lora && i < lora->parts().size(); ++i) {
      const LoraPart& part = lora->parts()[i];
      const std::string& stored = sites[site]->parts[static_cast<size_t>(part.part)].stored;
      const auto found = by_source.find(stored + ".weight");
      if (found == by_source.end() || found->second->shape.size() != 2 || found->second->sources.size() != 1 ||
          found->second->shape != std::vector<int64_t>{part.out, lora->a(i).cols()})
        not_an_adapter("has LoRA on " + stored + ", which a GGUF keeps in another form");
      const GgufOutput& output = *found->second;
      const double strength = static_cast<double>(part.scale) * static_cast<double>(part.r);  // alpha, were there one for each
      if (!alpha) alpha = strength;
      const double factor = strength == *alpha ? 1 : strength / *alpha;
      const std::vector<float> b = copied(lora->b(i));
      std::vector<float> ordered(b.size());
      for (int64_t row = 0; row < part.out; ++row) {
        const int64_t to = output.order.empty() ? row : output.order[static_cast<size_t>(row)];
        for (int64_t c = 0; c < part.r; ++c)
          ordered[static_cast<size_t>(to * part.r + c)] =
              static_cast<float>(factor * static_cast<double>(b[static_cast<size_t>(row * part.r + c)]));
      }
      tensors.push_back(adapter_tensor(output.name + ".lora_a", {part.r, lora->a(i).cols()}, copied(lora->a(i)), recipe));
      tensors.push_back(adapter_tensor(output.name + ".lora_b", {part.out, part.r}, std::move(ordered), recipe));
      ++report.matrices;
    }
  }
  if (tensors.empty()) not_an_adapter("adapts nothing");
  GgufMetadata metadata;
  metadata.put_text("general.architecture", keys.architecture->name);
  metadata.put_text("general.type", "adapter");
  metadata.put_text("adapter.type", "lora");
  metadata.put_number("adapter.lora.alpha", *alpha);
  metadata.put_text("general.name", name);
  metadata.put_unsigned("general.base_model.count", 1);
  metadata.put_text("general.base_model.0.name", base_model);
  metadata.put_unsigned("general.file_type", recipe.file_type);
  metadata.put_unsigned("general.quantization_version", 2);
  std::vector<GgufEntry> entries;
  for (const AdapterTensor& tensor : tensors) entries.push_back(tensor.entry);
  stream_gguf(path, metadata, entries, [&](size_t index, const WriteGgufBytes& write) {
    const AdapterTensor& tensor = tensors[index];
    const auto count = static_cast<int64_t>(tensor.values.size());
    const Buffer memory(static_cast<size_t>(loraine::bytes_of(tensor.type, count)));
    if (is_packed(tensor.type)) quantise(memory.data(), tensor.type, tensor.values.data(), count);
    else convert(memory.data(), tensor.type, tensor.values.data(), Dtype::F32, count);
    write(memory.data(), memory.bytes());
  });
  const GgufFile written(path);
  for (const AdapterTensor& tensor : tensors) report.worst = std::max(report.worst, relative_error(tensor, written));
  const double explained = recipe.matrices == Dtype::F32 ? 0 : 0.02;
  if (!(report.worst <= explained))
    throw Error(ErrorKind::numeric, fmt::format("{}: read back, a matrix is {:.3g} of its size from the adapter's", path, report.worst),
                "choose gguf_type: f32");
  return report;
}

}  // namespace loraine
