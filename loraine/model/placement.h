// Tensors of a model's files on their way to sites and vectors: each is checked against what config.json implies, and all that disagrees is
// gathered before loading fails. Called by load, norm and the mixers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "loraine/io/tensors/tensor_source.h"
#include "loraine/model/config.h"
#include "loraine/model/load.h"
#include "loraine/model/parameters.h"

namespace loraine {

class Placement {
 public:
  Placement(const TensorSource& source, const LoadOptions& options, const ModelConfig& config)
      : source_(source), options_(options), config_(config) {}
  // Asks for nothing, and lists what would be asked for.
  Placement(const TensorSource& source, const LoadOptions& options, const ModelConfig& config, std::vector<TensorInfo>* wanted)
      : source_(source), options_(options), config_(config), wanted_(wanted) {}
  const ModelConfig& config() const { return config_; }

  // The module `path` becomes the next part of the site: [out, in] and, when `bias`, [out]. meaning says what the shape follows from.
  // whole: it is left as it is where layers are quantised.
  void part(Site& site, const std::string& path, int64_t out, int64_t in, bool bias, const char* meaning, bool whole = false);
  // One parameter of experts, whose module, name and sizes are set. Files have it whole, or in pieces of equal height called `pieces`
  // ("gate_proj", "up_proj"): a tensor [E, out, in] each, or a matrix of every expert. whole: which of the two is asked for where neither
  // is there.
  void experts(ExpertWeights& all, const std::vector<std::string>& pieces, bool whole);
  // A tensor of any shape as F32 values.
  void vector(Vector& out, const std::string& name, const std::vector<int64_t>& shape);
  void vector(Vector& out, const std::string& name, int64_t size) { vector(out, name, std::vector<int64_t>{size}); }
  // A matrix that rows are taken of by number; `name`: of the module.
  void table(Table& out, const std::string& name, int64_t rows, int64_t cols, const char* meaning);
  // The embedding: the same without a number. `stored`: its name in the files.
  Tensor matrix(const std::string& stored, int64_t rows, int64_t cols, const char* meaning, Buffer& owned);
  // Throws bad_data with the first few problems.
  void finish(const std::string& path) const;

 private:
  void problem(const std::string& text);
  const TensorInfo* check(const std::string& stored, const std::vector<int64_t>& shape, const char* meaning);
  void expert_matrices(ExpertStack& stack, const TensorInfo& info, const ExpertWeights& all);
  bool expert_pieces(ExpertWeights& all, const TensorInfo& info);
  Tensor place_packed(const TensorInfo& info, Buffer& owned) const;
  void to_codes(WeightPart& part) const;

  const TensorSource& source_;
  const LoadOptions& options_;
  const ModelConfig& config_;
  std::vector<TensorInfo>* wanted_ = nullptr;
  std::string problems_;
  int count_ = 0;
};

}  // namespace loraine
