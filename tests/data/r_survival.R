# Goldens of R's survival and riskRegression: Rscript r_survival.R (from r_survival.csv; writes r_survival.json beside it).
suppressMessages({library(survival); library(riskRegression); library(jsonlite)})
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
d <- read.csv(file.path(here, "r_survival.csv"))
tight <- coxph.control(eps = 1e-11, toler.chol = 1e-13, iter.max = 50)
num <- function(x) ifelse(is.finite(x), x, NA)
out <- list(versions = list(survival = as.character(packageVersion("survival")),
                            riskRegression = as.character(packageVersion("riskRegression"))))
S <- with(d, Surv(months, event))
lr <- survdiff(S ~ group, d); out$log_rank <- lr$chisq
out$log_rank_by_fold <- survdiff(S ~ group + strata(fold), d)$chisq
fit <- survfit(S ~ group, d, conf.type = "log-log")
q <- quantile(fit, 0.5)
out$median <- list(value = unname(q$quantile[, 1]), low = num(unname(q$lower[, 1])), high = num(unname(q$upper[, 1])))
s <- summary(fit, times = c(12, 36), extend = TRUE)
out$at <- list(group = as.character(s$strata), months = s$time, survival = s$surv, low = s$lower, high = s$upper, at_risk = s$n.risk)
r <- summary(fit, rmean = 50)$table
out$rmst <- list(value = unname(r[, "rmean"]), se = unname(r[, "se(rmean)"]))
h <- coxph(S ~ I(group == "high"), d, control = tight); out$hazard_ratio <- list(beta = unname(coef(h)), se = unname(sqrt(diag(vcov(h)))))
h <- coxph(S ~ I(group == "high") + strata(fold), d, control = tight)
out$hazard_ratio_by_fold <- list(beta = unname(coef(h)), se = unname(sqrt(diag(vcov(h)))))
out$c_index <- unname(concordance(S ~ risk, d, reverse = TRUE)$concordance)
out$uno <- unname(concordance(S ~ risk, d, reverse = TRUE, timewt = "n/G2")$concordance)
out$uno_40 <- unname(concordance(S ~ risk, d, reverse = TRUE, timewt = "n/G2", ymax = 40)$concordance)
p <- as.matrix(d[, c("death_12", "death_36")])
score <- Score(list(m = p), formula = Surv(months, event) ~ 1, data = d, times = c(12, 36), cens.model = "km",
               metrics = c("auc", "brier"), se.fit = FALSE, null.model = FALSE, conf.int = FALSE, split.method = "none")
out$auc <- score$AUC$score$AUC
out$brier <- score$Brier$score$Brier
out$holm <- p.adjust(c(0.01, 0.04, 0.03, 0.5), "holm")
base <- coxph(S ~ age, d, control = tight); more <- coxph(S ~ age + risk, d, control = tight)
out$added <- list(beta = unname(coef(more)["risk"]), se = unname(sqrt(vcov(more)["risk", "risk"])), chisq = anova(base, more)$Chisq[2])
write_json(out, file.path(here, "r_survival.json"), digits = 12, auto_unbox = TRUE, na = "null", pretty = TRUE)
