// Streams answers from two threads at once over one model: stream MODEL
#include <loraine/chat_model.h>

#include <cstdio>
#include <string>
#include <thread>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  try {
    loraine::ChatModel model({{"model_name_or_path", argv[1]}, {"do_sample", "false"}, {"max_new_tokens", "24"}});
    std::string answers[2];
    std::thread workers[2];
    for (int i = 0; i < 2; ++i)
      workers[i] = std::thread([&, i] {
        model.stream_chat({{"user", i == 0 ? "Hello" : "Bye"}}, [&, i](std::string_view piece) {
          answers[i] += piece;
          return true;
        });
      });
    for (std::thread& worker : workers) worker.join();
    std::printf("%s\n%s\n", answers[0].c_str(), answers[1].c_str());
  } catch (const loraine::ChatError& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
