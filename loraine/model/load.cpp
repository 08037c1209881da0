// A folder's configuration and tensors to a model.
#include "loraine/model/load.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/tensors/turned_source.h"
#include "loraine/model/layer.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

std::string head_name(const ModelNames& names) { return names.in_files(names.head) + ".weight"; }

// Where both are in the file, they are tied when they are equal: transformers' rule, whatever config.json says. (torch's files always hold
// both, one storage under two names.)
bool has_own_head(const TensorSource& source, const ModelNames& names) {
  const TensorInfo *embedding = source.find(names.in_files(names.embedding) + ".weight"), *head = source.find(head_name(names));
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
std::string embedding_name(const Model& model) {
  const std::string embedding = model.config.names.in_files(model.config.names.embedding) + ".weight", head = head_name(model.config.names);
  const bool only_head = model.config.tie_word_embeddings && !model.source->find(embedding) && model.source->find(head);
  return only_head ? head : embedding;
}

}  // namespace

std::string name_to_save(const Model& model, const std::string& stored) {
  const std::string head = head_name(model.config.names);
  if (!model.config.tie_word_embeddings || stored != head) return stored;
  return embedding_name(model) == head ? model.config.names.in_files(model.config.names.embedding) + ".weight" : "";
}

std::string untied_text(const Model& model) {
  if (!model.untied_by_file) return "";
  return model.path +
         ": config.json says tie_word_embeddings, and the file has an lm_head.weight that differs from the embedding; the head "
         "in the file is used, as transformers does";
}

namespace {

// Whether files hold names with a word that a form of names has another word for.
bool holds_renamed(const TensorSource& source, const std::vector<std::pair<std::string, std::string>>& form) {
  for (const auto& [word, there] : form)
    if (word.starts_with('.') && word != there)
      for (const TensorInfo& tensor : source.tensors())
        if (tensor.name.find(word + ".") != std::string::npos) return true;
  return false;
}

// Of the forms in which files of a model are found, the one that these have; the last, where none fits.
void choose_names(ModelNames& names, const TensorSource& source) {
  const auto stored = names.stored;
  for (const auto& form : stored) {
    names.stored = {form};
    const bool found =
        source.find(names.in_files(names.embedding) + ".weight") || source.find(names.in_files(names.final_norm) + ".weight");
    if (found && !holds_renamed(source, form)) break;
  }
}

// Every site, vector, table and parameter of experts its place among all.
void number(Model& model) {
  int64_t sites = 0, experts = 0, tables = 0;
  std::map<std::string, int64_t> vectors;
  const auto parts = [&](const Parts& all) {
    for (Site* site : all.sites) site->index = sites++;
    for (Vector* vector : all.vectors)  // branches beside each other may read one norm: it is trained as one
      vector->index = vectors.try_emplace(vector->name, static_cast<int64_t>(vectors.size())).first->second;
    for (ExpertWeights* weights : all.experts) weights->index = experts++;
    for (Table* table : all.tables) table->index = tables++;
  };
  for (const auto& layer : model.layers) parts(layer->parts());
  Parts last;
  last.sites = {&model.head};
  add_parts(last, *model.embedding_norm);
  add_parts(last, *model.final_norm);
  parts(last);
}

// All weights of a model whose config and source are set.
void place_all(Placement& p, Model& model) {
  const ModelConfig& c = model.config;
  model.embedding = p.matrix(embedding_name(model), c.vocab_size, c.hidden_size, "vocab_size, hidden_size", model.embedding_memory);
  *model.embedding_norm = place_norm(p, c.embedding_norm, c.names.embedding + "_norm", {c.hidden_size});
  *model.final_norm = place_norm(p, c.final_norm, c.names.final_norm, {c.hidden_size});
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const std::string prefix = c.names.layer(layer);
    Layer& here = *model.layers.emplace_back(std::make_unique<Layer>());
    for (const BranchConfig& branch : c.layers[static_cast<size_t>(layer)].branches) {
      if (branch.normed_residual && (branch.beside || branch.before.kind == NormKind::none))
        throw Error(ErrorKind::internal, prefix + ": a branch whose residual is its norm needs one, and stands alone");
      here.branches.push_back({place_norm(p, branch.before, prefix + branch.before.name, {c.hidden_size}),
                               place_norm(p, branch.after, prefix + branch.after.name, {c.hidden_size}), branch.mixer->place(p, prefix),
                               branch.scale, branch.beside, branch.stream_scale, branch.normed_residual});
    }
    if (const std::string& name = c.layers[static_cast<size_t>(layer)].scalar; !name.empty()) {
      Vector scalar;  // not trained: to transformers it is no parameter
      p.vector(scalar, prefix + name, 1);
      if (!scalar.values.empty()) here.branches.back().stream_scale *= scalar.values[0];
    }
  }
  model.head.weight.is_head = true;
  if (c.tie_word_embeddings) {
    WeightPart part;
    part.name = c.names.head;
    part.stored = c.names.in_files(part.name);
    part.weight = model.embedding;
    model.head.weight.parts.push_back(std::move(part));
  } else {
    p.part(model.head, c.names.head, c.vocab_size, c.hidden_size, c.head_bias, "vocab_size, hidden_size", true);
  }
}

}  // namespace

Model load_model(ModelFiles& files, const LoadOptions& options) {
  Model model;
  model.path = files.path;
  model.config = model_config(files.config, files.path + "/config.json");
  model.use_bf16 = options.bf16;
  model.source = files.tensors;
  const ModelConfig& c = model.config;
  choose_names(model.config.names, *model.source);
  if (!c.names.turned.empty()) model.source = turned_source(model.source, c.names.turned);
  if (c.tie_word_embeddings && has_own_head(*model.source, c.names)) {
    model.config.tie_word_embeddings = false;
    model.untied_by_file = true;
    files.config["tie_word_embeddings"] = false;  // what is saved says what it is
  }
  Placement p(*model.source, options, model.config);
  place_all(p, model);
  p.finish(files.path);
  number(model);
  check_mapped_files();
  return model;
}

std::vector<TensorInfo> tensors_of(const nlohmann::json& config, const std::string& file) {
  class Nothing : public TensorSource {
   public:
    const std::vector<TensorInfo>& tensors() const override { return none_; }
    Tensor map(const TensorInfo&) const override { return {}; }
    void read(const TensorInfo&, const Tensor&) const override {}

   private:
    std::vector<TensorInfo> none_;
  };
  Model model;
  model.config = model_config(config, file);
  model.source = std::make_shared<Nothing>();
  std::vector<TensorInfo> wanted;
  const LoadOptions options;
  Placement p(*model.source, options, model.config, &wanted);
  place_all(p, model);
  for (TensorInfo& info : wanted)
    if (info.shape.size() == 2 && is_turned(model.config.names.turned, info.name)) std::swap(info.shape[0], info.shape[1]);
  std::ranges::sort(wanted, {}, &TensorInfo::name);
  const auto same = [](const TensorInfo& a, const TensorInfo& b) { return a.name == b.name; };  // a norm that two branches read
  wanted.erase(std::unique(wanted.begin(), wanted.end(), same), wanted.end());
  return wanted;
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
