// Questions with few answers about one state, in two spellings: OpenAI's decisions and TypeSafe's System One. From a request's JSON to what
// the model is asked, and from the shares of labels to the answer's JSON.
#pragma once
#include <string>
#include <vector>

#include "loraine/data/decisions/question.h"
#include "loraine/serve/decisions.h"
#include "loraine/serve/protocol/errors.h"

namespace loraine {

struct DecisionQuestion : DecisionWording {
  std::string name;              // the caller's; empty: none
  std::vector<WireJson> values;  // of the options, as the answer names them
  std::vector<double> numbers;   // of a score whose levels are numbers
};

struct AskedDecisions {
  std::string model;
  WireJson messages;  // the state as a conversation; each question is asked in its last turn, a user's
  std::vector<DecisionQuestion> questions;
  std::string ignored;  // fields that nobody knows, for the log
};

// Throw ApiError.
AskedDecisions read_decisions(const WireJson& body, bool strict);
AskedDecisions read_system_one(const WireJson& body, bool strict);
// The conversation with a question at its end.
WireJson messages_with(const AskedDecisions& asked, const DecisionQuestion& question);

WireJson decisions_json(const AskedDecisions& asked, const Decided& decided, const std::string& model);
WireJson system_one_json(const AskedDecisions& asked, const Decided& decided, const std::string& model);

}  // namespace loraine
