// What a model has learned: matrices that its rows are multiplied with, and vectors. Each has a number, under which an AdapterSet holds
// what lies over it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "loraine/quant/weight.h"

namespace loraine {

struct Site {
  Weight weight;
  int64_t index = -1;
  bool gives_output = false;  // the last product of its mixer, which a recomputation can leave out
};

// One matrix of every expert, and the columns of their product that it gives: first, first + step, ….
struct ExpertStack {
  std::string stored;  // the tensor [E, …] of all in the model's files; empty: that of expert e is parts[e].stored + ".weight"
  int64_t first = 0, columns = 0, step = 1;
  std::vector<WeightPart> parts;  // by expert
};

// The matrices of all experts that are one parameter to transformers and adapters: here [E, out, in], or [E, in, out] when transposed.
// Files may hold it in pieces, and the other way (WeightPart::transposed).
struct ExpertWeights {
  std::string module, parameter;  // "model.layers.0.mlp.experts", "gate_up_proj"
  int64_t experts = 0, out = 0, in = 0;
  bool transposed = false;
  bool a_gives_output = false;      // PEFT's A has out columns, as of Llama 4
  bool older_differs = true;        // A of PEFT before 0.19 has the other columns
  bool interleaved = false;         // rows of gate and up take turns
  bool nested = false;              // PEFT keeps its adapter inside that of the module's other parameter
  std::vector<std::string> pieces;  // an expert's own matrices, one below the other, where each is a layer: "gate_proj", "up_proj"
  std::vector<ExpertStack> stacks;
  int64_t index = -1;
  bool gives_output = false;
  std::string name() const { return module + "." + parameter; }
};

struct Vector {
  std::string name, stored;  // the tensor as adapters call it, and in the model's files
  std::vector<float> values;
  bool is_buffer = false;  // to transformers: no training changes it
  int64_t index = -1;
  Tensor view() const {  // data == nullptr when it has no values
    if (values.empty()) return {};
    return Tensor(const_cast<float*>(values.data()), Dtype::F32, {static_cast<int64_t>(values.size())});
  }
};

// A matrix beside the embedding that rows are taken of by the tokens' numbers.
struct Table {
  std::string name, stored;  // the tensor as adapters call it, and in the model's files
  Tensor value;              // as stored
  Buffer memory;             // empty when mapped
  int64_t index = -1;
};

// All of one mixer or layer, in an order that stays.
struct Parts {
  std::vector<Site*> sites;
  std::vector<Vector*> vectors;
  std::vector<ExpertWeights*> experts = {};
  std::vector<Table*> tables = {};
  void add(const Parts& more) {
    sites.insert(sites.end(), more.sites.begin(), more.sites.end());
    vectors.insert(vectors.end(), more.vectors.begin(), more.vectors.end());
    experts.insert(experts.end(), more.experts.begin(), more.experts.end());
    tables.insert(tables.end(), more.tables.begin(), more.tables.end());
  }
};

}  // namespace loraine
