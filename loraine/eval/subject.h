// Who is evaluated, and with what the decoder runs over its batches. Used by the files of eval/.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "loraine/api/loaded_model.h"
#include "loraine/data/examples/example.h"

namespace loraine {

struct Subject {
  const LoadedModel& loaded;
  const AdapterSet* adapter = nullptr;  // nullptr: the model as it is
  std::function<void(const std::string& what, int64_t done, int64_t total)> progress = [](const std::string&, int64_t, int64_t) {};
};

// Whether `bytes` more fit memory_limit, the cgroup and the machine; check_room throws out_of_memory when they do not.
bool has_room(const Subject& subject, size_t bytes);
void check_room(const Subject& subject, size_t bytes);

// Memory of batches of up to `rows` rows, without a backward.
class Forward {
 public:
  Forward(const Subject& subject, int64_t rows);  // checks its room
  Forward(const Forward&) = delete;
  Context ctx;
  Pass& pass() { return pass_; }
  // Logits behind the last token of each prompt, of the tokens `ids` only: [prompts][ids].
  std::vector<std::vector<float>> last_logits(std::span<const std::vector<int32_t>> prompts, std::span<const int32_t> ids);

 private:
  const Model& model_;
  Arena memory_, scratch_;
  Activations activations_;
  Pass pass_;
};

}  // namespace loraine
