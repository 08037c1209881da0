// See base_tensors.h. Here too: the copies themselves (attach_dense).
#include "loraine/model/base_tensors.h"

#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/model/attach.h"

namespace loraine {
namespace {

// The site of a set, with the base's parts as views the first time it is needed.
DenseSite& site_with_views(DenseSite& site, const Weight& base) {
  if (site.weight.parts.empty())
    for (const WeightPart& part : base.parts) {
      WeightPart view;
      view.name = part.name;
      view.stored = part.stored;
      view.weight = part.weight;
      view.bias = part.bias;
      site.weight.parts.push_back(std::move(view));
    }
  return site;
}

// shared: the weight is another tensor's too, which goes on being read.
void add_site(std::vector<BaseTensor>& all, const Weight& base, size_t index, bool shared) {
  for (size_t p = 0; p < base.parts.size(); ++p) {
    const WeightPart& part = base.parts[p];
    all.push_back({part.name + ".weight", part.stored + ".weight", part.weight, !shared && part.owned.bytes() == 0,
                   [&base, index, p](DenseSet& set, const DenseTensor& t) {
                     DenseSite& site = site_with_views(set.sites[index], base);
                     site.weight.parts[p].weight = t.value;
                     site.d_weight[p] = t.gradient;
                   }});
    if (!part.bias) continue;
    const Tensor bias(const_cast<float*>(part.bias), Dtype::F32, {part.weight.rows()});
    all.push_back({part.name + ".bias", part.stored + ".bias", bias, false, [&base, index, p](DenseSet& set, const DenseTensor& t) {
                     DenseSite& site = site_with_views(set.sites[index], base);
                     site.weight.parts[p].bias = t.value.f32();
                     site.d_bias[p] = t.gradient;
                   }});
  }
}

void add_experts(std::vector<BaseTensor>& all, const ExpertWeights& w) {
  const std::vector<int64_t> shape = {w.experts, w.transposed ? w.in : w.out, w.transposed ? w.out : w.in};
  const auto place = [&w](DenseSet& set, const DenseTensor& t) {
    DenseExperts& own = set.experts[static_cast<size_t>(w.index)];
    for (int64_t e = 0; e < w.experts; ++e) {
      own.matrices.push_back(expert_matrix(t.value, e));
      if (t.gradient.data) own.gradients.push_back(expert_matrix(t.gradient, e));
    }
  };
  bool mapped = false;
  for (const ExpertStack& stack : w.stacks)
    for (const WeightPart& part : stack.parts) mapped = mapped || part.owned.bytes() == 0;
  BaseTensor& tensor = all.emplace_back();
  tensor.name = w.name();
  tensor.value = Tensor(nullptr, Dtype::F32, shape);
  tensor.mapped = mapped;
  tensor.place = place;
  tensor.experts = &w;
}

// Columns [first, first + n) of the product with expert e's matrix: rows of it, or columns where it is transposed.
Tensor stack_of(const Tensor& matrix, const ExpertWeights& w, const ExpertStack& stack) {
  return w.transposed ? matrix.col_range(stack.first, stack.columns) : matrix.row_range(stack.first, stack.columns);
}

void copy_experts(const Tensor& to, const ExpertWeights& w, size_t& replaced) {
  for (const ExpertStack& stack : w.stacks)
    for (int64_t e = 0; e < w.experts; ++e) {
      const WeightPart& part = stack.parts[static_cast<size_t>(e)];
      widen_rows(stack_of(expert_matrix(to, e), w, stack), part.weight);
      if (part.owned.bytes() > 0) continue;
      release_if_mapped(part.weight.data, part.weight.bytes());
      replaced += part.weight.bytes();
    }
}

// The tensors that the model's files have for a parameter of experts.
void store_experts(std::vector<StoredTensor>& stored, const Tensor& value, const ExpertWeights& w) {
  for (const ExpertStack& stack : w.stacks) {
    if (!stack.stored.empty()) {
      Tensor all = value;
      all.data = stack_of(expert_matrix(value, 0), w, stack).data;
      all.shape[w.transposed ? 2 : 1] = stack.columns;
      stored.push_back({stack.stored, all});
      continue;
    }
    for (int64_t e = 0; e < w.experts; ++e)
      stored.push_back({stack.parts[static_cast<size_t>(e)].stored + ".weight", stack_of(expert_matrix(value, e), w, stack)});
  }
}

}  // namespace

std::vector<BaseTensor> base_tensors(const Model& model, bool share_tied) {
  std::vector<BaseTensor> all;
  const bool tied = model.config.tie_word_embeddings, share = tied && share_tied;
  const ModelNames& names = model.config.names;
  all.push_back({names.embedding + ".weight", names.in_files(names.embedding) + ".weight", model.embedding,
                 (share || !tied) && model.embedding_memory.bytes() == 0, [&model, share](DenseSet& set, const DenseTensor& t) {
                   set.embedding = t;
                   if (!share) return;
                   DenseSite& head = site_with_views(set.sites.back(), model.head.weight);
                   head.weight.parts[0].weight = t.value;
                   head.d_weight[0] = t.gradient;
                 }});
  const std::vector<const Vector*> vectors = model.vectors();
  for (size_t i = 0; i < vectors.size(); ++i)
    if (const Tensor value = vectors[i]->view(); value.data)
      all.push_back({vectors[i]->name, vectors[i]->stored, value, false, [i](DenseSet& set, const DenseTensor& t) { set.vectors[i] = t; },
                     !vectors[i]->is_buffer});
  for (const Table* table : model.tables())
    all.push_back({table->name, table->stored, table->value, table->memory.bytes() == 0,
                   [table](DenseSet& set, const DenseTensor& t) { set.tables[static_cast<size_t>(table->index)] = t; }});
  const std::vector<const Weight*> sites = model.sites();
  for (size_t site = 0; site < sites.size(); ++site)
    if (!sites[site]->is_head || !share) add_site(all, *sites[site], site, sites[site]->is_head && tied);
  for (const ExpertWeights* experts : model.experts()) add_experts(all, *experts);
  return all;
}

void attach_dense(AdapterSet& set, const Model& model, const ChooseTensor& choose, bool trained, bool share_tied,
                  const std::function<bool(const std::string& name)>& without_gradient) {
  std::vector<std::pair<BaseTensor, std::string>> chosen;
  int64_t elements = 0, of_gradients = 0;
  for (BaseTensor& t : base_tensors(model, share_tied))
    if (std::string name = choose(t.name); !name.empty() && (t.trained || name != t.name)) {  // PEFT stores buffers, with their modules
      elements += t.value.numel();
      if (without_gradient && without_gradient(t.name)) t.trained = false;
      if (trained && t.trained) of_gradients += t.value.numel();
      chosen.emplace_back(std::move(t), std::move(name));
    }
  if (chosen.empty()) return;
  auto dense = std::make_shared<DenseSet>();
  dense->sites.resize(model.sites().size());
  dense->vectors.resize(model.vectors().size());
  dense->tables.resize(model.tables().size());
  dense->experts.resize(model.experts().size());
  dense->memory = Buffer(static_cast<size_t>(elements + of_gradients) * sizeof(float), true);
  float *next = static_cast<float*>(dense->memory.data()), *next_gradient = next + elements;
  for (auto& [base, name] : chosen) {
    const Tensor& from = base.value;
    const std::vector<int64_t> shape(from.shape, from.shape + from.rank);
    DenseTensor t;
    t.value = Tensor(next, Dtype::F32, shape);
    if (trained && base.trained) {
      t.gradient = Tensor(next_gradient, Dtype::F32, shape);
      next_gradient += from.numel();
    }
    next += from.numel();
    if (base.experts) {
      copy_experts(t.value, *base.experts, dense->replaced_bytes);
      store_experts(dense->in_files, t.value, *base.experts);
    } else {
      widen_row(t.value.f32(), from);
      if (base.mapped) {  // the copy is what is used
        release_if_mapped(from.data, from.bytes());
        dense->replaced_bytes += from.bytes();
      }
      dense->in_files.push_back({base.stored, {t.value}});
    }
    base.place(*dense, t);
    dense->parameters.push_back({name, t.value, t.gradient});
    dense->base_name.push_back(base.name);
  }
  check_mapped_files();
  set.dense = std::move(dense);
  if (set.sites.empty()) {
    set.sites.resize(set.dense->sites.size());
    set.head_site = model.head.index;
  }
}

}  // namespace loraine
