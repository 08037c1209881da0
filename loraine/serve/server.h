// A server from its settings to its end: listens, loads the model, answers, drains. Called by `loraine serve` and `loraine api`.
#pragma once
#include <functional>
#include <string>

#include "loraine/api/loaded_model.h"
#include "loraine/serve/settings.h"

namespace loraine {

struct ServerStart {
  ServeConfig config;
  TrainConfig model;  // of load_for_answers
  std::string version;
  bool llama_factory = false;
  LlamaFactoryApi api;
  std::function<void(const std::string&)> say;  // a line for the operator
};
// Until SIGINT or SIGTERM; a second one ends the process with 130. Gives the exit code; throws what listening and loading throw.
int run_server(ServerStart start);

}  // namespace loraine
