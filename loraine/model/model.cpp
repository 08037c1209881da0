// What a model consists of, counted and listed.
#include "loraine/model/model.h"

#include "loraine/io/files/mapped_file.h"
#include "loraine/model/layer.h"

namespace loraine {

Model::Model() : embedding_norm(std::make_unique<Norm>()), final_norm(std::make_unique<Norm>()) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

void Model::release(const Tensor& weight, const Buffer& owned) const {
  if (!read_once || owned.bytes() > 0) return;
  if (config.tie_word_embeddings && embedding_memory.bytes() > 0) {  // the head is the embedding, which was read into memory
    const char *first = static_cast<const char*>(embedding_memory.data()), *data = static_cast<const char*>(weight.data);
    if (data >= first && data < first + embedding_memory.bytes()) return;
  }
  release_pages(weight.data, weight.bytes());
}

std::vector<const Weight*> Model::layer_sites() const {
  std::vector<const Weight*> all;
  for (const auto& layer : layers)
    for (const Site* site : layer->parts().sites) all.push_back(&site->weight);
  return all;
}
std::vector<Weight*> Model::layer_sites() {
  std::vector<Weight*> all;
  for (const auto& layer : layers)
    for (Site* site : layer->parts().sites) all.push_back(&site->weight);
  return all;
}
std::vector<const Weight*> Model::sites() const {
  std::vector<const Weight*> all = layer_sites();
  all.push_back(&head.weight);
  return all;
}
std::vector<Weight*> Model::sites_to_change() {
  std::vector<Weight*> all = layer_sites();
  all.push_back(&head.weight);
  return all;
}

namespace {

template <class AnyModel, class Part>
void list_block_parts(AnyModel& model, std::vector<Part*>& all) {
  for (const auto& layer : model.layers) {
    const Parts parts = layer->parts();
    for (Site* site : parts.sites)
      for (WeightPart& part : site->weight.parts) all.push_back(&part);
    for (ExpertWeights* experts : parts.experts)
      for (ExpertStack& stack : experts->stacks)
        for (WeightPart& part : stack.parts) all.push_back(&part);
  }
}

}  // namespace

std::vector<WeightPart*> Model::block_parts() {
  std::vector<WeightPart*> all;
  list_block_parts(*this, all);
  return all;
}
std::vector<const WeightPart*> Model::block_parts() const {
  std::vector<const WeightPart*> all;
  list_block_parts(*this, all);
  return all;
}

std::vector<const ExpertWeights*> Model::experts() const {
  std::vector<const ExpertWeights*> all;
  for (const auto& layer : layers)
    for (const ExpertWeights* experts : layer->parts().experts) all.push_back(experts);
  return all;
}

std::vector<const Table*> Model::tables() const {
  std::vector<const Table*> all;
  for (const auto& layer : layers)
    for (const Table* table : layer->parts().tables) all.push_back(table);
  return all;
}

std::vector<ExpertWeights*> Model::experts_to_change() {
  std::vector<ExpertWeights*> all;
  for (const auto& layer : layers)
    for (ExpertWeights* experts : layer->parts().experts) all.push_back(experts);
  return all;
}

std::vector<const Vector*> Model::vectors() const {
  Parts parts;
  for (const auto& layer : layers) parts.add(layer->parts());
  add_parts(parts, *embedding_norm);
  add_parts(parts, *final_norm);
  std::vector<const Vector*> all;
  for (const Vector* vector : parts.vectors)  // one that two branches read comes once
    if (vector->index == static_cast<int64_t>(all.size())) all.push_back(vector);
  return all;
}

int64_t Model::parameter_count() const {
  int64_t n = embedding.numel();
  if (!config.tie_word_embeddings) n += head.weight.in() * head.weight.out();
  for (const WeightPart& part : head.weight.parts) n += part.bias ? part.weight.rows() : 0;
  for (const Table* table : tables()) n += table->value.numel();
  for (const Vector* vector : vectors()) n += static_cast<int64_t>(vector->values.size());
  for (const WeightPart* part : block_parts()) n += part->weight.numel() + (part->bias ? part->weight.rows() : 0);
  return n;
}

size_t Model::weight_bytes() const {
  size_t n = embedding.bytes();
  for (const Table* table : tables()) n += table->value.bytes();
  if (!config.tie_word_embeddings)
    for (const WeightPart& part : head.weight.parts) n += part.weight.bytes();
  for (const WeightPart* part : block_parts()) n += part->quant_state ? part->owned.bytes() : part->weight.bytes();
  return n;
}

}  // namespace loraine
