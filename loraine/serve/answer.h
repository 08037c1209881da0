// A request that is being answered: what the engine brings becomes text, and the text an answer of the request's protocol. All but the
// start runs in the server's thread.
#pragma once
#include <memory>
#include <vector>

#include "loraine/serve/protocol/answer_form.h"
#include "loraine/serve/protocol/asked.h"
#include "loraine/serve/service.h"
#include "loraine/serve/text_stream.h"

namespace loraine {

class Answer : public std::enable_shared_from_this<Answer> {
 public:
  // From any thread. prompts: of each, n choices. Throws ApiError where nothing is to be queued: too long, the queue full, the server
  // ending.
  static void start(Service& service, Call call, Asked asked, std::shared_ptr<const ServedAdapter> adapter,
                    std::vector<PromptState> prompts, std::unique_ptr<AnswerForm> form, std::string id);
  void tick(EngineClock::time_point now);  // whether it takes too long
  void pump();                             // what is new, to the client
  ~Answer();

 private:
  struct Choice {
    std::shared_ptr<Generation> sequence;
    Detokenizer text;
    StopStrings stops;
    AnswerPiece waiting;               // not sent yet: its text is held back
    bool ended = false, left = false;  // left: the engine is done with it, too
  };
  Answer(Service& service, Call call, Asked asked, std::shared_ptr<const ServedAdapter> adapter, std::unique_ptr<AnswerForm> form);
  void read(size_t index);
  void add_token(size_t index, int32_t id, const TokenLogprobs* told);
  void end_choice(size_t index, const char* reason, WireJson stop_reason);
  void hand_on(size_t index);
  void send(const std::string& text);
  void fail(const ApiError& error);
  void finish();
  void cancel_all();
  void count(size_t index, const char* reason);
  void over();

  Service& service_;
  const Call call_;
  const Asked asked_;
  const std::shared_ptr<const ServedAdapter> adapter_;
  const std::unique_ptr<AnswerForm> form_;
  std::vector<int32_t> stop_ids_;  // of the model and its template: no reason is given for them
  AnswerState state_;
  std::vector<Choice> choices_;
  bool begun_ = false, over_ = false, gone_ = false, held_ = false;
  std::atomic<bool> pump_posted_{false};
};

}  // namespace loraine
