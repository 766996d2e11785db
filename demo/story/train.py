"""A script-mode training job: logistic regression on the Titanic passengers.

Runs inside the training container's contract: SM_CHANNEL_TRAIN, SM_MODEL_DIR and hyperparameters as arguments.
"""

import argparse
import os

import joblib
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split


def features(passengers):
    """Eight numbers a passenger: Pclass, Age, SibSp, Parch, Fare, Sex_male, Embarked_Q, Embarked_S."""
    table = passengers.drop(columns=["Name", "Cabin", "Ticket", "PassengerId"])
    table["Age"] = table["Age"].fillna(table["Age"].mean())
    return pd.get_dummies(table, drop_first=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-iter", type=int, default=500)
    parser.add_argument("--test-size", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    arguments = parser.parse_args()

    passengers = pd.read_csv(os.path.join(arguments.train, "train.csv"))
    print(f"read {len(passengers)} passengers, {passengers['Survived'].mean():.1%} survived", flush=True)
    table = features(passengers)
    x, y = table.drop(columns=["Survived"]), table["Survived"]
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=arguments.test_size, random_state=arguments.seed)

    model = LogisticRegression(max_iter=arguments.max_iter).fit(x_train.to_numpy(dtype=float), y_train)
    print(f"columns: {', '.join(x.columns)}", flush=True)
    print(f"train_accuracy={accuracy_score(y_train, model.predict(x_train.to_numpy(dtype=float))):.4f};", flush=True)
    print(f"accuracy={accuracy_score(y_test, model.predict(x_test.to_numpy(dtype=float))):.4f};", flush=True)
    joblib.dump(model, os.path.join(arguments.model_dir, "model.pkl"))
