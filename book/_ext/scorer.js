/* The order of search results: a function that has the word in its name first, then sections, then pages that use it. */
var Scorer = {
  objNameMatch: 20,
  objPartialMatch: 14,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([docname, , , , score]) => {
    if (docname === "book/index") return score + 4;
    return /^book\/(api|statements)/.test(docname) && score < 10 ? score - 3 : score;
  },
};
