// A request that is being answered: what the engine brings becomes text, and the text an answer of the request's protocol. All but the
// start runs in the server's thread.
#pragma once
#include <memory>
#include <vector>

#include "loraine/serve/protocol/answer_form.h"
#include "loraine/serve/protocol/asked.h"
#include "loraine/serve/reply_format.h"
#include "loraine/serve/request_in_flight.h"
#include "loraine/serve/text_stream.h"
#include "loraine/serve/thought_budget.h"

namespace loraine {

// What an answer begins with.
struct AnswerStart {
  Asked asked;
  std::shared_ptr<const ServedAdapter> adapter;
  std::vector<PromptState> prompts;  // of each, asked.n choices
  std::string id;
  std::unique_ptr<AnswerForm> form;
  ReplyReading reading = {};                                       // plain: the text as it comes
  std::shared_ptr<const grammar::TokenGrammar> grammar = nullptr;  // what it may be; nullptr: anything
  std::shared_ptr<const ThoughtLimit> thoughts = nullptr;          // how much may be thought; nullptr: anything
};

class Answer : public RequestInFlight {
 public:
  // From any thread. Throws ApiError where nothing is to be queued: too long, the queue full, the server ending.
  static void start(Service& service, Call call, AnswerStart given);
  ~Answer() override;

 private:
  struct Choice {
    std::shared_ptr<Generation> sequence;
    Detokenizer text;
    StopStrings stops;
    ReplyReader reader;
    AnswerPiece waiting;               // not sent yet: its text is held back
    bool ended = false, left = false;  // left: the engine is done with it, too
  };
  Answer(Service& service, Call call, AnswerStart given);
  void entered() override;
  void pump() override;  // what is new, to the client
  void client_went() override;
  void cancel_all() override;
  void fail(const ApiError& error) override;
  void read(size_t index);
  void add_token(size_t index, int32_t id, const TokenLogprobs* told);
  bool is_hidden(int32_t id) const;
  void add_text(size_t index, const std::string& text);
  void add_part(size_t index, AnswerPart part);
  void end_choice(size_t index, const char* reason, WireJson stop_reason);
  void hand_on(size_t index);
  void begin();
  void send(const std::string& text);
  void finish();
  void count(size_t index, const char* reason);

  const Asked asked_;
  const std::shared_ptr<const ServedAdapter> adapter_;
  const std::unique_ptr<AnswerForm> form_;
  const ReplyReading reading_;
  std::vector<int32_t> stop_ids_;  // of the model and its template: no reason is given for them
  AnswerState state_;
  std::vector<Choice> choices_;
  bool begun_ = false, gone_ = false, held_ = false;
};

}  // namespace loraine
