// Jinja templates as chat templates use them: the language of Jinja 3.1 as transformers 4.57 sets it up (trim_blocks, lstrip_blocks, break and continue,
// {% generation %}, its filter tojson, raise_exception, strftime_now, values that templates cannot change). Parts of Jinja that chat templates have no use
// for (inheritance, inclusion, HTML escaping by itself, recursive loops, some filters and methods) are refused by name, with their line.
//
//   const jinja::Template hello("Hello {{ name | title }}!", "hello");
//   jinja::Dict variables;
//   variables.set("name", "ada");
//   hello.render(variables).text;  // Hello Ada!
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/jinja/lexer.hpp"
#include "deltatune/text/jinja/parser.hpp"
#include "deltatune/text/jinja/renderer.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

// An Error of a template that says which item of RenderOptions::traced the template was at.
class RenderError : public Error {
 public:
  RenderError(std::string where, const Failure& failure, std::optional<std::size_t> traced_item)
      : Error(std::move(where), failure.what, failure.detail), failure_(failure), traced_item_(traced_item) {}

  const Failure& failure() const { return failure_; }
  std::optional<std::size_t> traced_item() const { return traced_item_; }

 private:
  Failure failure_;
  std::optional<std::size_t> traced_item_;
};

// A parsed template; copies share it. Rendering changes nothing, so threads may share it, too.
class Template {
 public:
  // `name` stands for the template in messages, which read "NAME: line 3: ...". Throws Error for what does not parse.
  DELTATUNE_FUNCTION Template(std::string_view source, std::string name) : name_(std::move(name)) {
    constexpr std::size_t kLongest = std::size_t{1} << 22U;
    if (source.size() > kLongest) throw Error(name_, "the template is too long", {.expected = "at most " + std::to_string(kLongest) + " bytes"});
    Parser parser(Lexer(source, name_).run(), name_);
    body_ = std::make_shared<const Node>(parser.run());
    has_generation_blocks_ = parser.has_generation_blocks();
  }

  // Throws RenderError for what goes wrong in the template, its raise_exception() included, and when it exceeds the limits.
  DELTATUNE_FUNCTION Rendering render(const Dict& variables, const RenderOptions& options = {}) const {
    Renderer renderer(variables, options);
    try {
      return renderer.run(*body_);
    } catch (const Failure& failure) {
      throw RenderError(place_in(name_, renderer.line()), failure, renderer.traced_item());
    }
  }

  bool has_generation_blocks() const { return has_generation_blocks_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::shared_ptr<const Node> body_;
  bool has_generation_blocks_ = false;
};

}  // namespace deltatune::jinja
