// Tensor by tensor: as it is, or computed.
#include "loraine/export/merge.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/embedding_lora.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/quantised.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/tensors/turned_source.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

// The base's biases, or those that are trained, and what the adapter adds to them (lora_bias), summed in f32.
void add_merged_biases(std::map<std::string, MergedTensor>& all, const std::vector<const Weight*>& sites, const AdapterSet& adapter,
                       std::vector<Buffer>& memory) {
  for (size_t s = 0; s < adapter.sites.size(); ++s) {
    if (!adapter.sites[s]) continue;
    for (const BiasToAdd& own : adapter.sites[s]->biases_to_add()) {
      const WeightPart& part = sites[s]->parts[static_cast<size_t>(own.part)];
      check_takes_bias(part);
      Tensor& dense = all[part.stored + ".bias"].dense;
      const float* base = dense.data ? dense.f32() : part.bias;
      const Tensor sum(memory.emplace_back(own.bias.bytes()).data(), Dtype::F32, {own.bias.numel()});
      for (int64_t o = 0; o < sum.numel(); ++o) sum.f32()[o] = base[o] + own.scale * own.bias.f32()[o];
      dense = sum;
    }
  }
}

// What adapter and model have in the place of the base's tensors, by Hugging Face's names.
std::map<std::string, MergedTensor> merged_tensors(const Model& model, const AdapterSet* adapter, std::vector<Buffer>& biases) {
  std::map<std::string, MergedTensor> all;
  const std::vector<const Weight*> sites = model.sites();
  for (const Weight* site : sites)
    for (const WeightPart& part : site->parts)
      if (part.changed && !part.quant_state) all[part.stored + ".weight"].dense = part.weight;
  if (!adapter) return all;
  if (adapter->dense)
    for (const StoredTensor& stored : adapter->dense->in_files) all[stored.name].dense = stored.value;
  for (size_t s = 0; s < adapter->sites.size(); ++s)
    if (const Adapter* at = adapter->sites[s].get())
      for (size_t p = 0; p < sites[s]->parts.size(); ++p) {
        if (!at->adapts(static_cast<int>(p))) continue;
        if (sites[s]->parts[p].quant_state)
          throw Error(
              ErrorKind::usage,
              fmt::format("an adapter on {} cannot be merged into the codes that quantization_bit makes of it", sites[s]->parts[p].name),
              "export base and adapter without quantization_bit, and quantise the result");
        MergedTensor& tensor = all[sites[s]->parts[p].stored + ".weight"];
        tensor.adapter = at;
        tensor.part = static_cast<int>(p);
        if (const float* factors = at->bias_factors(tensor.part); factors && sites[s]->parts[p].bias) {
          const std::string bias = sites[s]->parts[p].stored + ".bias";
          if (!model.source->find(bias))
            throw Error(ErrorKind::unsupported,
                        fmt::format("{}: its bias is not a tensor by itself, and the adapter changes it", sites[s]->parts[p].name),
                        "merge the adapter with PEFT");
          all[bias].bias_factors = factors;
        }
      }
  add_merged_biases(all, sites, *adapter, biases);
  for (const ExpertWeights* weights : model.experts()) {
    const ExpertLora* lora = adapter->expert(weights->index);
    if (!lora) continue;
    const auto add = [&](const std::string& stored, const ExpertStack& stack, int64_t expert) {
      MergedTensor& tensor = all[stored];
      tensor.experts = lora;
      tensor.expert = expert;
      // Of a tensor that holds all of the parameter every stack tells the whole.
      const bool part =
          stack.stored.empty() || weights->stacks.size() == 1 || weights->stacks.front().stored != weights->stacks.back().stored;
      tensor.first = part ? stack.first : 0;
      tensor.columns = part ? stack.columns : weights->out;
      tensor.transposed = stack.parts.front().transposed;
    };
    for (const ExpertStack& stack : weights->stacks) {
      if (!stack.stored.empty()) add(stack.stored, stack, -1);
      for (size_t e = 0; stack.stored.empty() && e < stack.parts.size(); ++e)
        add(stack.parts[e].stored + ".weight", stack, static_cast<int64_t>(e));
    }
  }
  if (adapter->embedding) all[model.config.names.in_files(adapter->embedding->name()) + ".weight"].embedding = adapter->embedding.get();
  return all;
}

bool holds_floats(Dtype type) { return type == Dtype::F32 || type == Dtype::F16 || type == Dtype::BF16; }

// Memory: the tensor in f32 and in the type that is written, at most.
void write_computed(const TensorSource& source, const MergedTensor& tensor, const WriteBytes& write) {
  const std::vector<int64_t>& shape = tensor.info->shape;
  const Buffer memory(Tensor(nullptr, tensor.type, shape).bytes());
  const Tensor out(memory.data(), tensor.type, shape);
  const bool f32_written = tensor.type == Dtype::F32;
  const Buffer f32_memory(f32_written ? 0 : static_cast<size_t>(out.numel()) * sizeof(float));
  const Tensor f32(f32_written ? out.data : f32_memory.data(), Dtype::F32, shape);
  merge_in_f32(source, tensor, f32);
  if (!f32_written) convert(out.data, out.dtype, f32.data, Dtype::F32, f32.numel());
  write(out.data, out.bytes());
}

// to = from, F32 without gaps, whose rows may be strided.
void copy_in_order(const Tensor& to, const Tensor& from) {
  if (from.contiguous()) return convert(to.data, Dtype::F32, from.data, from.dtype, to.numel());
  for (int64_t row = 0; row < from.rows(); ++row)
    convert(to.f32() + row * from.cols(), Dtype::F32, from.row_range(row, 1).data, from.dtype, from.cols());
}

}  // namespace

int64_t Merge::merged() const {
  return std::ranges::count_if(computed, [](const auto& one) { return one.second.merged(); });
}

void read_base(const TensorSource& source, const MergedTensor& tensor, const Tensor& f32) {
  if (tensor.dense.data) return copy_in_order(f32, tensor.dense);
  source.read(*tensor.info, f32);
  if (const Tensor mapped = source.map(*tensor.info); mapped.data) release_pages(mapped.data, mapped.bytes());
}

void merge_in_f32(const TensorSource& source, const MergedTensor& tensor, const Tensor& f32) {
  read_base(source, tensor, f32);
  Context ctx;
  if (tensor.adapter) tensor.adapter->merge_into(ctx, f32, tensor.part);
  if (tensor.bias_factors)
    for (int64_t i = 0; i < f32.numel(); ++i) f32.f32()[i] *= tensor.bias_factors[i];
  if (tensor.embedding) tensor.embedding->merge_into(ctx, f32);
  if (!tensor.experts) return;
  if (tensor.expert >= 0) return tensor.experts->merge_into(ctx, f32, tensor.expert, tensor.first, tensor.transposed);
  for (int64_t e = 0; e < f32.rows(); ++e) tensor.experts->merge_into(ctx, expert_matrix(f32, e), e, tensor.first, tensor.transposed);
}

std::unique_ptr<Merge> plan_merge(const Model& model, const AdapterSet* adapter, std::optional<Dtype> written_as) {
  const TensorSource& source = *model.source;
  if (adapter) check_merges(*adapter);
  std::vector<Buffer> biases;
  const std::map<std::string, MergedTensor> merged = merged_tensors(model, adapter, biases);
  const bool untied = adapter && unties(model, *adapter);
  const ModelNames& names = model.config.names;
  auto merge = std::make_unique<Merge>(Merge{model, adapter});
  merge->biases = std::move(biases);
  const auto add = [&](const TensorInfo& info, const std::string& name) {
    const auto found = merged.find(name);
    MergedTensor tensor = found == merged.end() ? MergedTensor{} : found->second;
    tensor.info = &info;
    tensor.type = holds_floats(info.dtype) ? written_as.value_or(info.dtype) : info.dtype;
    WeightToWrite weight = stored_weight(source, info);
    weight.entry.name = name;
    if (tensor.merged() || tensor.type != info.dtype) {
      const MergedTensor& kept = merge->computed[name] = tensor;
      weight.entry.dtype = tensor.type;
      weight.write = [&source, &kept](const WriteBytes& write) { write_computed(source, kept, write); };
    }
    merge->weights.push_back(is_turned(names.turned, info.name) ? turned(std::move(weight)) : std::move(weight));
  };
  if (untied)
    for (const TensorInfo& info : source.tensors())
      if (name_to_save(model, info.name) == names.in_files(names.embedding) + ".weight") add(info, names.in_files(names.head) + ".weight");
  for (const TensorInfo& info : source.tensors())
    if (const std::string name = name_to_save(model, info.name); !name.empty()) add(info, name);
  write_quantised(model, merge->weights);
  for (const Weight* site : model.sites())
    for (const WeightPart& part : site->parts)
      if (part.quant_state) merge->computed.erase(part.stored + ".weight");
  return merge;
}

int64_t write_merge(const Merge& merge, const std::string& folder, const WeightFormat& format, const std::function<bool()>& keep_going) {
  std::vector<WeightToWrite> weights = merge.weights;
  for (WeightToWrite& weight : weights)
    if (keep_going && merge.computed.contains(weight.entry.name))
      weight.write = [write = std::move(weight.write), &keep_going](const WriteBytes& bytes) {
        if (!keep_going()) throw Stopped();
        write(bytes);
      };
  return write_weight_files(weights, folder, format);
}

}  // namespace loraine
